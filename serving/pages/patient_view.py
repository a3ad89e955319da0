"""What the page of a patient shows: their risk and why, what changed, what is unusual for them, and their alarms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vigil.features.kernel.plan import UNBOUNDED
from vigil.models.alarms.patient_terms import PatientTerms
from vigil.models.assessment import usable_model
from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.chart import Chart
from vigil.serving.identity.identities import Identities
from vigil.serving.pages.charts import Panel, Span
from vigil.serving.pages.patient_charts import read_readings, risk_panels, signal_panels
from vigil.serving.pages.signal_cells import SignalCell, StandingBound, shown_bounds, signal_cells
from vigil.serving.records.journal import Journal
from vigil.serving.records.people import People
from vigil.serving.records.prediction_log import PredictionLog
from vigil.serving.records.registration import RecordedRegistration
from vigil.serving.records.timestamps import instant, microsecond, present
from vigil.serving.records.ward_rows import Alarm
from vigil.serving.records.ward_settings import WardSettingsFile
from vigil.serving.records.ward_state import WardState
from vigil.serving.scoring.anomalies import Anomaly, Gap, anomalies, baseline_row, gaps
from vigil.serving.scoring.champion import Champion
from vigil.serving.scoring.history import recent_changes, risk_point
from vigil.serving.scoring.risk_report import Contribution, Include, RiskReport
from vigil.serving.scoring.risk_service import RiskService
from vigil.serving.words import Words


@dataclass(frozen=True, slots=True)
class Contributor:
    """A signal and how it moved the risk. ``share``: of the strongest, from -1 to 1."""

    signal: str
    share: float
    measured: bool | None


@dataclass(frozen=True, slots=True)
class PatientView:
    """One patient.

    Attributes:
        id: opaque id.
        name: the identifier by which the hospital knows them; empty: it is not known any more.
        registration: where they are; None: they were never registered.
        merged_into: opaque id of the patient that they were merged into; None: they were not.
        report: the present risk; None: nothing is known.
        news2: its components now, in the order of NEWS2.
        span: the time shown.
        course, signals: charts.
        contributions, changes: the strongest first; None: the model cannot say.
        anomalies: what is unusual for this patient.
        gaps: what is no longer measured.
        alarms: of the time shown, newest first; None: the viewer may not see them.
        people: names of those who acted on them, or decided for the patient, by caller.
        has_glucose: whether glucose was measured in it.
        bounds: at or beyond which a signal is now, without an exact value, and limits of the patient that are reached.
        cut_before: before which time readings are left out, as there are too many, microseconds; None: all are shown.
    """

    id: str
    name: str
    registration: RecordedRegistration | None
    merged_into: str | None
    report: RiskReport | None
    news2: Sequence[SignalCell]
    span: Span
    course: Sequence[Panel]
    signals: Sequence[Panel]
    contributions: Sequence[Contributor] | None
    changes: Sequence[Contributor] | None
    anomalies: Sequence[Anomaly]
    gaps: Sequence[Gap]
    alarms: Sequence[Alarm] | None
    people: Mapping[str, str]
    has_glucose: bool
    bounds: Sequence[StandingBound]
    cut_before: int | None


class PatientViews:
    """Makes the views of patients. Threads may share it."""

    def __init__(
        self,
        *,
        chart: Chart,
        identities: Identities,
        journal: Journal,
        log: PredictionLog,
        champion: Champion,
        risk_service: RiskService,
        ward_state: WardState,
        ward_settings: WardSettingsFile,
        people: People,
    ) -> None:
        self._chart, self._identities, self._journal, self._log = chart, identities, journal, log
        self._champion, self._risk_service, self._ward_state = champion, risk_service, ward_state
        self._ward_settings, self._people = ward_settings, people

    def find(self, identity: str, caller: Caller) -> str | None:
        """Return the subject key of an opaque id, if the caller may see the patient."""
        subject = self._chart.directory.ids.subject(identity)
        return subject if subject is not None and self._chart.may_see(caller, subject) else None

    def view(self, subject: str, span: Span, caller: Caller, words: Words) -> PatientView:
        """Return what is shown of a patient.

        Raises:
            LogUnavailableError: the risk could not be logged, so it is not given.
        """
        survivor = self._chart.survivor(subject)
        with self._journal.snapshot() as journal:
            registration = journal.registration(survivor, UNBOUNDED)
        wanted: list[Include] = ["range", "contributions"]
        found = self._risk_service.by_subject([survivor], include=wanted)[0]
        report = found if isinstance(found, RiskReport) else None
        since, until = instant(span.since), instant(span.until)
        points = [risk_point(row) for row in self._log.history(survivor, since, until).to_dict("records")]
        may_see_alarms = caller.has_scope("alarms:read")
        all_alarms = self._ward_state.alarms(subject=survivor) if may_see_alarms else []
        alarms = [
            alarm for alarm in all_alarms if alarm.opened_at <= span.until and (alarm.ended_at or span.until) >= span.since
        ]
        acted = {action.by for alarm in alarms for action in alarm.actions}
        terms = None if report is None else report.terms
        readings = read_readings(self._journal, survivor, span)
        row = baseline_row(self._journal, survivor, present())
        now = microsecond(present())
        bounds = [] if report is None else shown_bounds([*report.bounds, *report.reached], now)
        return PatientView(
            id=self._chart.directory.ids.of_subject(subject),
            name=self._identities.find([survivor]).get(survivor, ""),
            registration=registration,
            merged_into=None if survivor == subject else self._chart.directory.ids.of_subject(survivor),
            report=report,
            news2=[] if report is None else signal_cells(report.risk.components, report.features_hours, bounds),
            span=span,
            course=risk_panels(points, alarms, span, words, self._threshold(registration, terms)),
            signals=signal_panels(readings, span, words, terms, now),
            contributions=None if report is None else _contributors(report.contributions),
            changes=_contributors(recent_changes(self._journal, self._champion.model, survivor)),
            anomalies=[] if row is None else [one for one in anomalies(row) if one.unusual],
            gaps=[] if row is None else gaps(row),
            alarms=alarms if may_see_alarms else None,
            people=self._people.names(acted if terms is None else {*acted, terms.by}),
            has_glucose=any(reading.signal == "glucose" for reading in readings.stored),
            bounds=bounds,
            cut_before=readings.cut_before,
        )

    def _threshold(self, registration: RecordedRegistration | None, terms: PatientTerms | None) -> float | None:
        """Return the probability at which an alarm of the model sounds."""
        self._ward_settings.refresh()
        ward = "" if registration is None else registration.ward
        policy = self._ward_settings.settings(ward).policy(usable_model(self._champion.model))
        return (policy if terms is None else terms.own_policy(policy)).threshold


def _contributors(contributions: Sequence[Contribution] | None) -> list[Contributor] | None:
    if contributions is None:
        return None
    strongest = max((abs(one.log_odds) for one in contributions), default=0.0) or 1.0
    return [Contributor(one.signal, one.log_odds / strongest, one.measured) for one in contributions]
