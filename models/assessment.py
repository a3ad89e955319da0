"""The assessment of patients from their features: the model's risk if the model may be asked, and NEWS2 in any case.

The decision is made here and nowhere else, for the API, the rescorer, reproduction, evaluation and the promotion gates.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.features.derived import SCORE_CARRY_HOURS, Columns
from vigil.features.scores import NEWS2_BANDS
from vigil.models.alarms.safety_net import (
    ADULT_FROM,
    ALARM_FROM,
    Band,
    CriticalCause,
    Reason,
    Score,
    applicable_score,
    join_reasons,
    news2_band,
    news2_reasons,
    worse_band,
)
from vigil.models.bedside import (
    RETROSPECTIVE,
    SUSTAINED,
    Component,
    ScoreTerms,
    apply_terms,
    find_expired,
    read_column,
    read_columns,
    read_components,
)

if TYPE_CHECKING:  # their libraries take seconds, and who only reads a decision needs none of them
    from vigil.models.registry import RegisteredModel
    from vigil.models.training.risk_model import RiskModel

Basis = Literal["model", "news2"]
DecidedBy = Literal["model", "news2", "critical_bound", "patient_limit", "nothing"]
Finding = Literal[
    "no_model", "withdrawn", "no_feature_store", "stale_data", "no_recent_readings", "outside_training", "model_failed",
    "hardly_known", "momentary", "news2_not_for_children", "news2_not_in_pregnancy", "silent", "value_too_old",
    "signal_stopped",
]  # fmt: skip

# A patient without an observation for so long is silent. It is the longest interval between checks in RCP 2017, chart 4.
SILENT_AFTER: Final = timedelta(hours=12)

_COMPONENTS: Final = {signal: f"news2_{signal}" for signal in NEWS2_BANDS}
_NET_FEATURES: Final = {"net_score": "news2_sustained", "net_spot": "news2_sustained_spot"}
_NET_NEEDED: Final = pd.Index([*_COMPONENTS.values(), *_NET_FEATURES.values(), "age", "pregnant"])
_HIGHEST_POINTS: Final = {signal: max(points) for signal, (_, points) in NEWS2_BANDS.items()}
# Components that are measured in the patient. Oxygen is given to the patient.
_MEASURED: Final = tuple(signal for signal in NEWS2_BANDS if signal != "on_oxygen")


@dataclass(frozen=True, slots=True)
class Assessment:
    """The assessment of one patient at ``index_time``.

    Attributes:
        patient: subject key.
        index_time: time up to which observations count.
        basis: the model, or NEWS2 alone.
        probability: of the outcome within the horizon; None if the model was not asked.
        band: the worse of the model's band and that of NEWS2; ``unknown`` if too little is known to call a patient low.
        decided_by: which of the two set the band (``model`` if both agree), a critical bound or a limit of the patient;
            ``nothing`` if none could.
        reasons: rules of NEWS2 that ask for more than routine care.
        news2: the score of the chart, in which a missing component counts 0.
        news2_highest: the highest score that the missing components allow.
        components: of NEWS2, by signal.
        terms: under which NEWS2 was made.
        net_score: NEWS2 of sustained values, for the safety net; None if it does not apply or nothing is known.
        net_spot: of these points, those of signals that are measured by spot checks; None like ``net_score``.
        score: the early-warning score that applies to the patient.
        findings: why there is no probability, and what needs care.
        unusual: with the finding ``outside_training``: what distinguishes the patient from those of training.
        hours_since_reading: hours from the latest observation to ``index_time``; None if there was none within a day.
    """

    patient: str
    index_time: pd.Timestamp
    basis: Basis
    probability: float | None
    band: Band
    decided_by: DecidedBy
    reasons: tuple[Reason, ...]
    news2: int
    news2_highest: int
    components: dict[str, Component]
    terms: ScoreTerms
    net_score: int | None
    net_spot: int | None
    score: Score
    findings: tuple[Finding, ...]
    unusual: tuple[str, ...]
    hours_since_reading: float | None

    @property
    def is_emergency(self) -> bool:
        """Whether NEWS2 asks for an emergency response: the safety net sounds an alarm, at once or when the score has held."""
        return self.net_score is not None and self.net_score >= ALARM_FROM

    def with_critical(self, causes: Collection[CriticalCause]) -> "Assessment":
        """Return the assessment while something critical stands: the band is high, whatever the model and NEWS2 say."""
        standing = [cause for cause in get_args(CriticalCause) if cause in causes]
        if not standing:
            return self
        by = self.decided_by if self.band == "high" else standing[0]
        return replace(self, band="high", decided_by=by, reasons=(*self.reasons, *standing))

    def with_stopped_signal(self) -> "Assessment":
        """Return the assessment while a signal has stopped. It is a finding alone: values count for as long as they may."""
        return replace(self, findings=(*self.findings, "signal_stopped"))


def usable_model(registered: "RegisteredModel | None") -> "RegisteredModel | None":
    """Return the model if it may be asked; None if there is none or it is withdrawn."""
    return None if registered is None or registered.withdrawn else registered


def assess_registered(
    registered: "RegisteredModel | None",
    rows: pd.DataFrame,
    findings: Sequence[tuple[Finding, ...]] | None = None,
    terms: Sequence[ScoreTerms] | None = None,
) -> list[Assessment]:
    """Assess feature rows with a registered model; a withdrawn model is not asked.

    Args:
        registered: the model; None if there is none.
        rows, findings, terms: as :func:`assess` takes them.
    """
    model = usable_model(registered)
    if registered is not None and model is None:
        findings = [(*row, "withdrawn") for row in findings or [()] * len(rows)]
    return assess(None if model is None else model.model, rows, findings, terms)


def assess(
    model: "RiskModel | None",
    rows: pd.DataFrame,
    findings: Sequence[tuple[Finding, ...]] | None = None,
    terms: Sequence[ScoreTerms] | None = None,
) -> list[Assessment]:
    """Assess feature rows, in their order.

    Args:
        model: None if no model may be asked.
        rows: ``subject_id, index_time`` and the features of the model and of the scores. Without the features of the safety net
            the NEWS2 of the chart counts. Without age and pregnancy a patient counts as an adult who is not pregnant.
        findings: for each row, reasons known before not to ask the model.
        terms: for each row, those under which NEWS2 is made; default: those of a retrospective protocol.
    """
    if rows.empty:
        return []
    terms = terms if terms is not None else [RETROSPECTIVE] * len(rows)
    columns = read_columns(rows)
    expired = find_expired(columns, terms)
    by_terms = apply_terms(columns, terms, expired)
    scores, components = _scores(by_terms), read_components(by_terms, expired)
    obstacles = [list(row) for row in findings] if findings is not None else [[] for _ in range(len(rows))]
    for row_scores, row_obstacles in zip(scores, obstacles, strict=True):
        if model is None and "withdrawn" not in row_obstacles:
            row_obstacles.append("no_model")
        if math.isnan(row_scores.hours_since_reading) and "stale_data" not in row_obstacles:
            row_obstacles.append("no_recent_readings")
    probability, unusual = _ask_model(model, rows, obstacles, [row_scores.score == "MEOWS" for row_scores in scores])
    keys = zip(rows["subject_id"].tolist(), rows["index_time"].tolist(), strict=True)
    answers = zip(keys, scores, components, terms, probability.tolist(), obstacles, unusual, strict=True)
    return [
        _risk(model, patient, time, row_scores, row_components, row_terms, p, tuple(row_obstacles), row_unusual)
        for (patient, time), row_scores, row_components, row_terms, p, row_obstacles, row_unusual in answers
    ]


def safety_net_scores(rows: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Return NEWS2 for the safety net: ``net_score`` and ``net_spot``, each of shape (n_rows,).

    ``net_score`` is NEWS2 of sustained values. ``net_spot`` are the points of it that come from spot checks. Both are NaN where
    NEWS2 does not apply or no component is known. Without the features of the net both are the score of the chart.

    Args:
        rows: features, as :func:`assess` takes them.
    """
    return _net_scores(read_columns(rows, _NET_NEEDED))


def _net_scores(columns: Columns) -> dict[str, NDArray[np.float64]]:
    points = _points(columns)
    is_adult = ~(read_column(columns, "age") < ADULT_FROM)
    applies = ~np.isnan(points).all(axis=1) & is_adult & (read_column(columns, "pregnant") != 1)
    chart = np.nansum(points, axis=1)
    sustained = {name: read_column(columns, feature) for name, feature in _NET_FEATURES.items()}
    return {name: np.where(applies, np.where(np.isnan(value), chart, value), np.nan) for name, value in sustained.items()}


def age_by_hours(rows: pd.DataFrame, hours: NDArray[np.float64]) -> pd.DataFrame:
    """Return rows as they are some hours later, for NEWS2: components older than a day are unknown."""
    later = rows.copy()
    for signal, component in _COMPONENTS.items():
        age = f"{signal}_age_{SCORE_CARRY_HOURS}h"
        if age not in rows:
            later[component] = np.nan
            continue
        later[age] = rows[age] + hours
        later[component] = rows[component].where(later[age] < SCORE_CARRY_HOURS)
    later["hours_since_reading"] = (rows["hours_since_reading"] + hours).where(lambda age: age < SCORE_CARRY_HOURS)
    return without_sustained_values(later)  # sustained values do not tell what is too old by then


def without_sustained_values(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows without sustained values, so that the latest values count at once, as on a nurse's chart."""
    return rows.drop(columns=SUSTAINED, errors="ignore")


class _Scores(NamedTuple):
    """NEWS2 of a row, and what it depends on.

    Attributes:
        hours_since_reading: hours since the latest observation; NaN if there was none within a day.
        net_score, net_spot: NEWS2 for the safety net, NaN where it does not apply.
        worst: highest points of one component, of sustained values.
        score: the early-warning score that applies to the patient.
    """

    hours_since_reading: float
    net_score: float
    net_spot: float
    worst: float
    score: Score


def _points(columns: Columns) -> NDArray[np.float64]:
    """Return the points of each component of NEWS2, shape (n_rows, 7)."""
    return np.column_stack([columns[name] for name in _COMPONENTS.values()])


def _scores(columns: Columns) -> list[_Scores]:
    """Return the scores of each row."""
    chart_worst = np.fmax.reduce(_points(columns), axis=1)
    worst = read_column(columns, "news2_sustained_worst")
    ages, pregnant = read_column(columns, "age").tolist(), read_column(columns, "pregnant").tolist()
    applying = [applicable_score(age, is_pregnant) for age, is_pregnant in zip(ages, pregnant, strict=True)]
    hours = columns["hours_since_reading"].tolist()
    worst = np.where(np.isnan(worst), chart_worst, worst).tolist()
    net = [value.tolist() for value in _net_scores(columns).values()]
    return [_Scores(*values) for values in zip(hours, *net, worst, applying, strict=True)]


def _ask_model(
    model: "RiskModel | None", rows: pd.DataFrame, obstacles: list[list[Any]], pregnant: list[bool]
) -> tuple[NDArray[np.float64], list[tuple[str, ...]]]:
    """Return the model's risk of each row, NaN if it is not asked or fails, and what is unusual about the patient.

    NEWS2 must answer even if the model fails. So the rows are then scored one by one, and those that fail get the finding
    ``model_failed``.
    """
    before = [list(row_obstacles) for row_obstacles in obstacles]
    probability = np.full(len(rows), np.nan)
    try:
        unusual = _find_unusual(model, rows, obstacles, pregnant)
        is_asked = np.array([not row_obstacles for row_obstacles in obstacles])
        if model is not None and is_asked.any():
            probability[is_asked] = model.risk(rows if is_asked.all() else rows[is_asked])
    except Exception:  # noqa: BLE001 - whatever it is, NEWS2 answers; the message may hold a patient's data
        for row_obstacles, row_before in zip(obstacles, before, strict=True):
            row_obstacles[:] = row_before
        if len(rows) == 1:
            obstacles[0].append("model_failed")
            return probability, [()]
        each = [_ask_model(model, rows.iloc[n : n + 1], obstacles[n : n + 1], pregnant[n : n + 1]) for n in range(len(rows))]
        return np.concatenate([risk for risk, _ in each]), [row_unusual for _, (row_unusual,) in each]
    for row in np.flatnonzero(is_asked & np.isnan(probability)) if model is not None else ():
        obstacles[row].append("model_failed")
    return probability, unusual


def _find_unusual(
    model: "RiskModel | None", rows: pd.DataFrame, obstacles: list[list[Any]], pregnant: list[bool]
) -> list[tuple[str, ...]]:
    """Return what distinguishes each patient from those of training, and add the obstacle ``outside_training``."""
    unusual: list[tuple[str, ...]] = [()] * len(rows)
    to_ask = [row for row, row_obstacles in enumerate(obstacles) if not row_obstacles]
    domain = getattr(model, "domain_", None)  # models of earlier versions lack it
    if not to_ask:
        return unusual
    by_domain: list[tuple[str, ...]] = [()] * len(to_ask)
    if domain is not None:
        by_domain = domain.unusual(rows if len(to_ask) == len(rows) else rows.iloc[to_ask])
    for row, row_unusual in zip(to_ask, by_domain, strict=True):
        # No cohort that models learn from tells who is pregnant.
        unusual[row] = (*row_unusual, "pregnancy") if pregnant[row] else row_unusual
        if unusual[row]:
            obstacles[row].append("outside_training")
    return unusual


def _risk(
    model: "RiskModel | None",
    patient: str,
    index_time: pd.Timestamp,
    scores: _Scores,
    components: dict[str, Component],
    terms: ScoreTerms,
    p: float,
    findings: tuple[Finding, ...],
    unusual: tuple[str, ...],
) -> Assessment:
    """Return the assessment of one row.

    Args:
        model: None if no model may be asked.
        patient, index_time: of the row.
        scores: NEWS2 of the row.
        components, terms: of NEWS2.
        p: risk by the model, NaN if it was not asked or failed.
        findings: reasons why the model was not asked.
        unusual: what distinguishes the patient from those of training.
    """
    since, net, spot, worst, applying = scores
    points = {signal: component.points for signal, component in components.items()}
    score = sum(value or 0 for value in points.values())
    net_score = None if math.isnan(net) else int(net)
    reasons: tuple[Reason, ...] = ()
    if net_score is not None:
        by_chart = news2_reasons(score, max(value or 0 for value in points.values()))
        reasons = join_reasons(by_chart, news2_reasons(net_score, int(worst)))
    highest = score + sum(_HIGHEST_POINTS[signal] for signal, value in points.items() if value is None)
    # With a single vital sign the lowest possible NEWS2 may be 0 while the highest asks for an emergency response. The same
    # holds if the model is not asked because a vital sign is missing: the missing one may be what matters.
    hardly_known = sum(points[signal] is not None for signal in _MEASURED) < 2
    too_little = hardly_known or (highest >= ALARM_FROM and any(word.startswith("not measured") for word in unusual))
    by_model = model is not None and not math.isnan(p)
    band, decided_by = _band(
        model.band(p) if model is not None and by_model else None,
        None if applying != "NEWS2" or (too_little and not reasons) else news2_band(reasons),
    )
    more_findings: list[tuple[bool, Finding]] = [
        (applying == "PEWS", "news2_not_for_children"),
        (applying == "MEOWS", "news2_not_in_pregnancy"),
        (hardly_known, "hardly_known"),
        (net_score is not None and net_score < ALARM_FROM <= score, "momentary"),
        (since >= SILENT_AFTER / timedelta(hours=1), "silent"),
        (any(component.is_expired for component in components.values()), "value_too_old"),
    ]
    return Assessment(
        patient=patient,
        index_time=index_time,
        basis="model" if by_model else "news2",
        probability=p if by_model else None,
        band=band,
        decided_by=decided_by,
        reasons=reasons,
        news2=score,
        news2_highest=highest,
        components=components,
        terms=terms,
        net_score=net_score,
        net_spot=None if math.isnan(spot) else int(spot),
        score=applying,
        findings=(*findings, *(finding for holds, finding in more_findings if holds)),
        unusual=unusual,
        hours_since_reading=None if math.isnan(since) else since,
    )


def _band(by_model: Band | None, by_news2: Band | None) -> tuple[Band, DecidedBy]:
    """Return the worse band and what set it. If NEWS2 does not apply, a low risk by the model is no reassurance: unknown."""
    if by_news2 is None:
        return ("unknown", "nothing") if by_model is None or by_model == "low" else (by_model, "model")
    if by_model is None:
        return by_news2, "news2"
    band = worse_band(by_model, by_news2)
    return band, "model" if band == by_model else "news2"
