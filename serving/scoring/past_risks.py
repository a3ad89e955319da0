"""Past risks: what the prediction log says of one, as a report.

What the log does not hold is taken from the journal as of the time of the risk: the bounds that stood, the patient's terms, and
how old the latest reading was. The outputs are those that were logged.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd

from vigil.features.catalogue import INDEX_STEP, VITALS
from vigil.features.derived import LABORATORY_CARRY_HOURS, SCORE_CARRY_HOURS
from vigil.features.errors import VigilError
from vigil.features.kernel.plan import HOUR_US
from vigil.features.scores import NEWS2_BANDS, assign_points, assign_spo2_scale_2
from vigil.models.alarms.safety_net import applicable_score
from vigil.models.assessment import Assessment, Finding
from vigil.models.bedside import COMPONENTS, RETROSPECTIVE, Component, ScoreTerms
from vigil.models.registry import RegisteredModel
from vigil.models.tasks import RiskTask
from vigil.serving.records.journal import Journal
from vigil.serving.records.journal_inputs import Input
from vigil.serving.records.journal_snapshot import JournalSnapshot
from vigil.serving.records.prediction_log import OUTPUTS, PredictionLog
from vigil.serving.records.prediction_rows import Origin
from vigil.serving.records.timestamps import microsecond
from vigil.serving.scoring.model_versions import ModelVersions
from vigil.serving.scoring.risk_report import RiskReport, range_of
from vigil.serving.scoring.standing import StandingRisks

# How far back the latest reading of a signal counts: the longest window of the features of all signals.
INPUTS_HOURS: Final = LABORATORY_CARRY_HOURS
_SECOND: Final = 1_000_000


@dataclass(frozen=True)
class PastRisk:
    """One logged risk.

    Attributes:
        report: as it was given, as far as log and journal know. Its model is None where the registry does not hold it any more.
        origin: where its features came from.
        made_at: when it was made.
        model: name and version of the model that could be asked; None: there was none.
        code: that made it; None: an earlier version did not log it.
        inputs: the latest reading of each signal that counted.
        logged: its row of the log.
    """

    report: RiskReport
    origin: Origin
    made_at: pd.Timestamp
    model: tuple[str, str] | None
    code: str | None
    inputs: list[Input]
    logged: pd.DataFrame

    @property
    def subject(self) -> str:
        """The subject key under which it was made; perhaps merged since."""
        return self.report.risk.patient


@dataclass(frozen=True)
class PastRisks:
    """The past risks of one home."""

    task: RiskTask
    log: PredictionLog
    journal: Journal
    standing: StandingRisks
    models: ModelVersions

    def find(self, prediction_id: str) -> PastRisk | None:
        """Return a past risk of a patient; None: there is none, or it is of readings in a request, or of another task."""
        logged = self.log.find(prediction_id)
        if logged.empty:
            return None
        row: dict[str, Any] = {name: None if pd.isna(value) else value for name, value in _first(logged).items()}
        if row["origin"] == "request" or row["model_name"] not in (None, self.task.name):
            return None
        with self.journal.snapshot() as journal:
            inputs = journal.newest_inputs(row["subject_id"], *inputs_interval(row["index_time"]))
            report = self._standing_report(row) or self._logged_report(journal, row, inputs)
        model = None if row["model_name"] is None else (row["model_name"], row["model_version"])
        return PastRisk(report, row["origin"], row["made_at"], model, row["code"], inputs, logged)

    def _standing_report(self, row: dict[str, Any]) -> RiskReport | None:
        """Return the report of a risk that still stands: all of it is known."""
        standing = self.standing.find(row["subject_id"])
        if standing is None or standing.stored["prediction_id"] != row["prediction_id"]:
            return None
        return self.standing.report(standing, ["range"])

    def _logged_report(self, journal: JournalSnapshot, row: dict[str, Any], inputs: list[Input]) -> RiskReport:
        subject, until = row["subject_id"], microsecond(row["index_time"])
        terms = RETROSPECTIVE if row["terms"] is None else ScoreTerms.from_json(row["terms"])
        registration = journal.registration(subject, until)
        age, is_pregnant = (None, None) if registration is None else (registration.age, registration.pregnant)
        hours_later = (row["as_of"] - row["index_time"]) / pd.Timedelta(hours=1)
        is_stale = row["origin"] == "online_store" and hours_later >= INDEX_STEP / pd.Timedelta(hours=1)
        findings: tuple[Finding, ...] = ("stale_data",) if is_stale else ()
        risk = Assessment(
            patient=subject,
            index_time=row["index_time"],
            **{name: row[name] for name in OUTPUTS if name != "decided_by"},
            decided_by=row["decided_by"] or row["basis"],
            reasons=(),
            components=_known(_components(journal, subject, until, terms), row["news2"]),
            terms=terms,
            score=applicable_score(float("nan") if age is None else age, float("nan") if is_pregnant is None else is_pregnant),
            findings=findings,
            unusual=(),
            hours_since_reading=_hours_since_reading(inputs, until, hours_later if is_stale else 0.0),
        )
        model = self._model(row)
        report = RiskReport(row["prediction_id"], risk, row["as_of"], self.task, model, row["feature_service"])
        report = replace(report, range=range_of(model, risk))
        bounds = journal.standing_bounds({subject: until}).get(subject, ())
        return report.with_bounds(bounds, journal.terms({subject: until}).get(subject))

    def _model(self, row: dict[str, Any]) -> RegisteredModel | None:
        if row["model_name"] is None:
            return None
        try:
            return self.models.load(row["model_name"], row["model_version"])
        except VigilError:
            return None


def inputs_interval(index_time: pd.Timestamp) -> tuple[int, int]:
    """Return the interval, in microseconds, in which readings were observed that a risk is made of.

    The online store knows an index time to the second only. Whatever was recorded within that second counts.
    """
    until = microsecond(index_time)
    if until % _SECOND == 0:
        until += _SECOND - 1
    return until - INPUTS_HOURS * HOUR_US, until


def _first(frame: pd.DataFrame) -> dict[str, Any]:
    return {str(name): value for name, value in frame.drop(columns="features").astype(object).iloc[0].items()}


def _components(journal: JournalSnapshot, subject: str, until: int, terms: ScoreTerms) -> dict[str, Component]:
    """Return the components of NEWS2 by the values that the journal has, since only their sum is logged."""
    latest, components = journal.latest({subject: until})[subject], {}
    for signal, carry_hours in zip(COMPONENTS, terms.carry_hours, strict=True):
        own = latest.get(signal)
        hours = None if own is None else (until - own.observed_at) / HOUR_US
        if own is None or hours is None or hours >= SCORE_CARRY_HOURS:
            components[signal] = Component(None)
        else:
            is_expired = hours >= carry_hours
            points = None if is_expired else int(assign_points(NEWS2_BANDS[signal], np.array([own.value]))[0])
            components[signal] = Component(points, own.value, hours, is_expired)
    spo2, oxygen = components["spo2"], components["on_oxygen"]
    if terms.spo2_scale == 2 and spo2.points is not None:
        given = float("nan") if oxygen.points is None or oxygen.value is None else oxygen.value
        (points,) = assign_spo2_scale_2(np.array([spo2.value]), np.array([given])).tolist()
        components["spo2"] = replace(spo2, points=None if np.isnan(points) else int(points))
    return components


def _known(components: dict[str, Component], news2: int) -> dict[str, Component]:
    """Return components, without their points where these are not those that were summed: readings are gone since."""
    if sum(component.points or 0 for component in components.values()) == news2:
        return components
    return {signal: replace(component, points=None) for signal, component in components.items()}


def _hours_since_reading(inputs: list[Input], until: int, later: float) -> float | None:
    """Return how old the latest vital sign was; None: there was none within a day."""
    ages = [(until - own.observed_at) / HOUR_US + later for own in inputs if own.signal in VITALS]
    return min((age for age in ages if age < SCORE_CARRY_HOURS), default=None)
