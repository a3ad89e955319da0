"""The assessment of patients from their features: the model's risk where a model may speak, and the safety net in any case.

The one place where it is decided what an answer says: the API, the rescorer, the reproduction of past predictions, the
evaluation and the promotion gates all ask here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.catalogue import SAFETY_NET, of
from features.derived import SCORE_CARRY_HOURS
from features.scores import NEWS2_BANDS
from models.alarms.safety_net import (
    ADULT_FROM,
    ALARM_FROM,
    Band,
    Reason,
    Score,
    either,
    news2_band,
    news2_reasons,
    score_for,
    worse,
)
from models.registry import RegisteredModel
from models.training.risk_model import RiskModel

Basis = Literal["model", "news2"]
DecidedBy = Literal["model", "news2", "nothing"]
Finding = Literal[
    "no_model", "withdrawn", "no_feature_store", "stale_data", "no_recent_readings", "outside_training", "model_failed",
    "hardly_known", "momentary", "news2_not_for_children", "news2_not_in_pregnancy", "silent",
]  # fmt: skip

# A patient of whom nothing came for so long is said to be silent: the longest interval of RCP 2017, chart 4.
SILENT_AFTER: Final = timedelta(hours=12)

_SUSTAINED: Final = [name for name in of(SAFETY_NET) if name.startswith("news2_sustained")]
_COMPONENTS: Final = {signal: f"news2_{signal}" for signal in NEWS2_BANDS}
_HIGHEST_POINTS: Final = {signal: max(points) for signal, (_, points) in NEWS2_BANDS.items()}
# What is measured in the patient; oxygen is given to them.
_MEASURED: Final = tuple(signal for signal in NEWS2_BANDS if signal != "on_oxygen")


@dataclass(frozen=True, slots=True)
class Risk:
    """The assessment of one patient as of ``index_time``.

    Attributes:
        patient: pseudonym.
        index_time: up to which readings were considered.
        basis: the model, or NEWS2 alone.
        probability: of the outcome within the horizon; None where the model was not asked.
        band: the worse of the model's and NEWS2's; ``unknown`` where too little is known to call a patient low.
        decided_by: which of the two set the band (``model`` where both agree); ``nothing``: neither could.
        reasons: rules of NEWS2 that ask for more than routine care.
        news2, news2_highest: the chart's score, a missing component counting 0, and its maximum.
        news2_parts: points of each component, None where unknown.
        net_score: NEWS2 as the safety net sees it, of sustained values; None where it does not apply or nothing is known.
        net_spot: of these points, those of signals that do not come continuously; None likewise.
        score: the early-warning score made for a patient like this.
        findings: why there is no probability, and what else to know.
        unusual: with ``outside_training``, what sets the patient apart from those the model learned from.
        hours_since_reading: before ``index_time``; None: none within a day.
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
    news2_parts: dict[str, int | None]
    net_score: int | None
    net_spot: int | None
    score: Score
    findings: tuple[Finding, ...]
    unusual: tuple[str, ...]
    hours_since_reading: float | None

    @property
    def is_emergency(self) -> bool:
        """Whether the safety net sounds an alarm by the guideline: at once, or once the score has held."""
        return self.net_score is not None and self.net_score >= ALARM_FROM


def trusted(registered: RegisteredModel | None) -> RegisteredModel | None:
    """Return the model if it may be asked; a withdrawn one decides nothing, and no answer bears its name."""
    return None if registered is None or registered.withdrawn else registered


def assess_registered(
    registered: RegisteredModel | None, rows: pd.DataFrame, findings: Sequence[tuple[Finding, ...]] | None = None
) -> list[Risk]:
    """Assess feature rows with a registered model; a withdrawn one is not asked.

    Args:
        registered: None where there is none.
        rows, findings: as :func:`assess` takes them.
    """
    model = trusted(registered)
    if registered is not None and model is None:
        findings = [(*row, "withdrawn") for row in findings or [()] * len(rows)]
    return assess(None if model is None else model.model, rows, findings)


def assess(model: RiskModel | None, rows: pd.DataFrame, findings: Sequence[tuple[Finding, ...]] | None = None) -> list[Risk]:
    """Assess feature rows, in their order.

    Args:
        model: None where there is none that may be asked.
        rows: ``subject_id, index_time`` and features: those of the model and of the scores. Without those of the safety net
            it goes by the chart's NEWS2; without age and pregnancy a patient counts as an adult who is not pregnant.
        findings: of each row, what already speaks against asking the model.
    """
    if rows.empty:
        return []
    numbers = _numbers(rows)
    against = [list(row) for row in findings] if findings is not None else [[] for _ in range(len(rows))]
    for of_row, so_far in zip(numbers, against, strict=True):
        if model is None and "withdrawn" not in so_far:
            so_far.append("no_model")
        if math.isnan(of_row.hours_since_reading) and "stale_data" not in so_far:
            so_far.append("no_recent_readings")
    probability, unusual = _asked(model, rows, against, [of_row.score == "MEOWS" for of_row in numbers])
    who = zip(rows["subject_id"].tolist(), rows["index_time"].tolist(), strict=True)
    answers = zip(who, numbers, probability.tolist(), against, unusual, strict=True)
    return [_risk(model, patient, time, of_row, p, tuple(so_far), odd) for (patient, time), of_row, p, so_far, odd in answers]


def net_of(rows: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Return NEWS2 as the safety net sees it: ``net_score`` and ``net_spot``, each of shape (n_rows,).

    ``net_score`` is of sustained values; ``net_spot`` are those of its points that come of spot checks. NaN where NEWS2 does
    not apply or no component is known. Without the features of the net both are the chart's score.

    Args:
        rows: features, as :func:`assess` takes them.
    """
    points = rows[list(_COMPONENTS.values())].to_numpy(np.float64)
    speaks = ~np.isnan(points).all(axis=1) & ~(_column(rows, "age") < ADULT_FROM) & (_column(rows, "pregnant") != 1)
    chart = np.nansum(points, axis=1)
    named = {"net_score": _column(rows, "news2_sustained"), "net_spot": _column(rows, "news2_sustained_spot")}
    return {name: np.where(speaks, np.where(np.isnan(found), chart, found), np.nan) for name, found in named.items()}


def out_of_date(rows: pd.DataFrame, hours: NDArray[np.float64]) -> pd.DataFrame:
    """Return rows as they look so many hours later, as far as NEWS2 goes: components older than a day are unknown."""
    later = rows.copy()
    for signal, component in _COMPONENTS.items():
        age = f"{signal}_age_{SCORE_CARRY_HOURS}h"
        known = rows[age] + hours < SCORE_CARRY_HOURS if age in rows else pd.Series(False, rows.index)
        later[component] = rows[component].where(known)
    later["hours_since_reading"] = (rows["hours_since_reading"] + hours).where(lambda age: age < SCORE_CARRY_HOURS)
    return as_charted(later)  # sustained values do not say what is too old by then


def as_charted(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows without their sustained values, so that the latest ones count at once, as on a nurse's chart."""
    return rows.drop(columns=_SUSTAINED, errors="ignore")


class _Numbers(NamedTuple):
    """What a row says beside the model's features.

    Attributes:
        hours_since_reading: NaN: none within a day.
        points: of each component by the chart, NaN where unknown.
        net_score, net_spot: as the safety net sees it, NaN where it has no say.
        worst: most points of one component, as the net sees it.
        score: made for a patient like this.
    """

    hours_since_reading: float
    points: list[float]
    net_score: float
    net_spot: float
    worst: float
    score: Score


def _numbers(rows: pd.DataFrame) -> list[_Numbers]:
    points = rows[list(_COMPONENTS.values())].to_numpy(np.float64)
    chart_worst = np.fmax.reduce(points, axis=1)
    worst = _column(rows, "news2_sustained_worst")
    ages, pregnant = _column(rows, "age").tolist(), _column(rows, "pregnant").tolist()
    made_for = [score_for(age, is_pregnant) for age, is_pregnant in zip(ages, pregnant, strict=True)]
    hours = rows["hours_since_reading"].to_numpy(np.float64).tolist()
    worst = np.where(np.isnan(worst), chart_worst, worst).tolist()
    net = [found.tolist() for found in net_of(rows).values()]
    of_rows = zip(hours, points.tolist(), *net, worst, made_for, strict=True)
    return [_Numbers(*of_row) for of_row in of_rows]


def _column(rows: pd.DataFrame, name: str) -> NDArray[np.float64]:
    """Return a feature, NaN where the rows do not have it."""
    return rows[name].to_numpy(np.float64) if name in rows else np.full(len(rows), np.nan)


def _asked(
    model: RiskModel | None, rows: pd.DataFrame, against: list[list[Any]], pregnant: list[bool]
) -> tuple[NDArray[np.float64], list[tuple[str, ...]]]:
    """Return the model's risk of each row, NaN where it is not asked or fails, and what is unusual about the patient.

    A model that fails must not take NEWS2 with it: what it fails on gets the finding ``model_failed``, row by row.
    """
    before = [list(so_far) for so_far in against]
    probability = np.full(len(rows), np.nan)
    try:
        unusual = _unusual(model, rows, against, pregnant)
        asked = np.array([not so_far for so_far in against])
        if model is not None and asked.any():
            probability[asked] = model.risk(rows if asked.all() else rows[asked])
    except Exception:  # noqa: BLE001 - whatever it is, NEWS2 goes on; its message may hold a patient's data
        for so_far, then in zip(against, before, strict=True):
            so_far[:] = then
        if len(rows) == 1:
            against[0].append("model_failed")
            return probability, [()]
        each = [_asked(model, rows.iloc[n : n + 1], against[n : n + 1], pregnant[n : n + 1]) for n in range(len(rows))]
        return np.concatenate([risk for risk, _ in each]), [odd for _, (odd,) in each]
    for place in np.flatnonzero(asked & np.isnan(probability)) if model is not None else ():
        against[place].append("model_failed")
    return probability, unusual


def _unusual(
    model: RiskModel | None, rows: pd.DataFrame, against: list[list[Any]], pregnant: list[bool]
) -> list[tuple[str, ...]]:
    """Return what sets each patient apart from those the model learned from; notes ``outside_training`` against asking it."""
    unusual: list[tuple[str, ...]] = [()] * len(rows)
    asked = [place for place, so_far in enumerate(against) if not so_far]
    domain = getattr(model, "domain_", None)  # of a model that an earlier version made there is none
    if not asked:
        return unusual
    found = domain.unusual(rows if len(asked) == len(rows) else rows.iloc[asked]) if domain is not None else [()] * len(asked)
    for place, odd in zip(asked, found, strict=True):
        # No cohort that models learn from says who is pregnant.
        unusual[place] = (*odd, "pregnancy") if pregnant[place] else odd
        if unusual[place]:
            against[place].append("outside_training")
    return unusual


def _risk(
    model: RiskModel | None,
    patient: str,
    index_time: pd.Timestamp,
    numbers: _Numbers,
    p: float,
    findings: tuple[Finding, ...],
    unusual: tuple[str, ...],
) -> Risk:
    since, points, level, spot, worst, made_for = numbers
    components = {signal: None if math.isnan(value) else int(value) for signal, value in zip(_COMPONENTS, points, strict=True)}
    score = sum(value or 0 for value in components.values())
    net_score = None if math.isnan(level) else int(level)
    reasons: tuple[Reason, ...] = ()
    if net_score is not None:
        by_chart = news2_reasons(score, max(value or 0 for value in components.values()))
        reasons = either(by_chart, news2_reasons(net_score, int(worst)))
    highest = score + sum(_HIGHEST_POINTS[signal] for signal, value in components.items() if value is None)
    # Of a single vital sign the lowest NEWS2 may be 0 while the highest asks for an emergency response. The same holds where
    # the model cannot speak for want of a vital sign: what is missing may be what matters.
    hardly_known = sum(components[signal] is not None for signal in _MEASURED) < 2
    too_little = hardly_known or (highest >= ALARM_FROM and any(odd.startswith("not measured") for odd in unusual))
    by_model = model is not None and not math.isnan(p)
    band, decided_by = _band(
        model.band(p) if model is not None and by_model else None,
        None if made_for != "NEWS2" or (too_little and not reasons) else news2_band(reasons),
    )
    noted: list[tuple[bool, Finding]] = [
        (made_for == "PEWS", "news2_not_for_children"),
        (made_for == "MEOWS", "news2_not_in_pregnancy"),
        (hardly_known, "hardly_known"),
        (net_score is not None and net_score < ALARM_FROM <= score, "momentary"),
        (since >= SILENT_AFTER / timedelta(hours=1), "silent"),
    ]
    return Risk(
        patient=patient,
        index_time=index_time,
        basis="model" if by_model else "news2",
        probability=p if by_model else None,
        band=band,
        decided_by=decided_by,
        reasons=reasons,
        news2=score,
        news2_highest=highest,
        news2_parts=components,
        net_score=net_score,
        net_spot=None if math.isnan(spot) else int(spot),
        score=made_for,
        findings=(*findings, *(finding for holds, finding in noted if holds)),
        unusual=unusual,
        hours_since_reading=None if math.isnan(since) else since,
    )


def _band(by_model: Band | None, by_news2: Band | None) -> tuple[Band, DecidedBy]:
    """Return the worse band and what set it. Where NEWS2 cannot speak, a low risk of the model reassures no reader."""
    if by_news2 is None:
        return ("unknown", "nothing") if by_model is None or by_model == "low" else (by_model, "model")
    if by_model is None:
        return by_news2, "news2"
    band = worse(by_model, by_news2)
    return band, "model" if band == by_model else "news2"
