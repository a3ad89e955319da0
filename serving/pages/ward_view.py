"""What the page of a ward shows: each patient as a row, by urgency, and how many can be seen this hour."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from vigil.models.alarms.patient_terms import find_breaches, restore_terms
from vigil.models.alarms.safety_net import urgency_rank
from vigil.models.assessment import usable_model
from vigil.serving.api.schemas.wards import WardPatient
from vigil.serving.api.ward_list import WardEntry, list_ward
from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.ids import ResourceIds
from vigil.serving.identity.identities import Identities
from vigil.serving.pages.charts import Sparkline, sparkline
from vigil.serving.pages.freshness import is_out_of_date
from vigil.serving.pages.signal_cells import SignalCell, StandingBound, shown_bounds, signal_cells
from vigil.serving.records.people import People
from vigil.serving.records.prediction_log import PredictionLog
from vigil.serving.records.timestamps import instant, microsecond, moment, present
from vigil.serving.records.ward_rows import Alarm, WardRisk, restore_bound
from vigil.serving.records.ward_settings import WardSettingsFile
from vigil.serving.records.ward_state import WardState
from vigil.serving.scoring.champion import Champion
from vigil.serving.scoring.risk_report import Contribution
from vigil.serving.scoring.standing import StandingRisks, restore_assessment

TREND_HOURS: Final = 6
REASONS: Final = 2
_TREND: Final = int(timedelta(hours=TREND_HOURS) / timedelta(microseconds=1))
_SILENT_SECONDS: Final = 60  # without a sign of the rescorer, after which the page says so
_BUDGET_WINDOW: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class WardRow:
    """One patient of the page.

    Attributes:
        id: opaque id of the patient.
        patient: the latest risk, as the API shows it.
        range: lowest and highest probability that the evidence supports; None: there is none.
        reasons: the signals that speak most for the risk; None: they are not known yet, or the model cannot say.
        signals: in the order of NEWS2.
        trend: the course of the risk; None: there is none.
        alarm: the open episode; None: there is none, or the viewer may not see alarms.
        people: names of those who acted on alarms, by caller.
        latest_hours: age of the latest reading; None: there was none within a day.
        bounds: at or beyond which a signal is, without an exact value, and limits of the patient that are reached.
    """

    id: str
    patient: WardPatient
    range: tuple[float, float] | None
    reasons: Sequence[Contribution] | None
    signals: Sequence[SignalCell]
    trend: Sparkline | None
    alarm: Alarm | None
    people: Mapping[str, str]
    latest_hours: float | None
    bounds: Sequence[StandingBound]

    @property
    def is_stale(self) -> bool:
        """Whether what is shown is out of date, or nothing arrives any more."""
        return is_out_of_date(self.latest_hours, self.patient.band, self.patient.news2, self.patient.findings)

    @property
    def opened_at(self) -> datetime | None:
        """When the alarm began."""
        return None if self.alarm is None else moment(self.alarm.opened_at)


@dataclass(frozen=True, slots=True)
class WardHead:
    """What the page says of the ward as a whole.

    Attributes:
        alive_at: when risks were last renewed; None: never.
        is_stopped: whether they are not renewed any more.
        sounded, allowed: alarms within 24 h, and how many the budget has.
        withheld: open episodes that the budget withheld.
        silent: sources from which nothing comes any more, each with the time of its last observation.
        net_limit, net_because: of the safety net, where the ward has its own; None: it is the guideline's.
    """

    alive_at: datetime | None
    is_stopped: bool
    sounded: int
    allowed: int
    withheld: int
    silent: Sequence[tuple[str, datetime]]
    net_limit: int | None
    net_because: str | None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Whom a number of visits leaves out.

    Attributes:
        number: of patients.
        expected: sum of their probabilities; patients without one are not in it.
        high, medium: how many are in these bands.
    """

    number: int
    expected: float
    high: int
    medium: int


class WardViews:
    """Makes the views of wards. Threads may share it."""

    def __init__(
        self,
        *,
        ward_state: WardState,
        ward_settings: WardSettingsFile,
        identities: Identities,
        log: PredictionLog,
        champion: Champion,
        standing: StandingRisks,
        ids: ResourceIds,
        people: People,
    ) -> None:
        self._ward_state, self._settings, self._identities = ward_state, ward_settings, identities
        self._log, self._champion, self._standing, self._ids = log, champion, standing, ids
        self._people = people

    def entries(self, ward: str, caller: Caller) -> list[WardEntry]:
        """Return the patients of a ward by urgency."""
        return list_ward(ward, caller, self._ward_state, self._identities)

    def id_of(self, entry: WardEntry) -> str:
        """Return the opaque id of a patient."""
        return self._ids.of_subject(entry.risk.subject_id)

    def wards(self, caller: Caller) -> list[tuple[str, int, int]]:
        """Return the wards that a caller may see, each with the number of its patients, and of those in the band high."""
        counts: dict[str, list[int]] = {ward: [0, 0] for ward in caller.wards or ()}
        for risk in self._ward_state.risks():
            if risk.ward and caller.can_see(risk.ward):
                own = counts.setdefault(risk.ward, [0, 0])
                own[0] += 1
                own[1] += risk.band == "high"
        return [(ward, number, high) for ward, (number, high) in sorted(counts.items())]

    def head(self, ward: str, entries: Sequence[WardEntry]) -> WardHead:
        """Return what is said of a ward as a whole."""
        now = present()
        _, alive_at = self._ward_state.progress()
        self._settings.refresh()
        own, rate = self._settings.settings(ward), self._standing.task.alarm_target.alarms_per_patient_day
        withheld = sum(entry.alarm is not None and entry.alarm.sounded == 0 for entry in entries)
        return WardHead(
            alive_at=None if alive_at is None else alive_at.to_pydatetime(),
            is_stopped=alive_at is not None and (now - alive_at).total_seconds() > _SILENT_SECONDS,
            sounded=self._ward_state.count_alarms(ward, now - _BUDGET_WINDOW),
            allowed=own.allowed_alarms(len(entries), rate),
            withheld=withheld,
            silent=[
                (one.source or "?", instant(one.since).to_pydatetime())
                for one in self._ward_state.silences.silent_sources()
                if one.ward == ward
            ],
            net_limit=own.safety_net.alarm_from if own.safety_net else None,
            net_because=own.safety_net.because if own.safety_net else None,
        )

    def rows(self, entries: Sequence[WardEntry], *, reasons: bool = True) -> list[WardRow]:
        """Return the rows of patients.

        Args:
            entries: of the patients.
            reasons: whether reasons that are not known yet are computed; it takes some milliseconds a patient.
        """
        now = microsecond(present())
        courses = self._log.courses([entry.risk.subject_id for entry in entries], now - _TREND)
        ranges = self._ranges(entries)
        people = self._people.names({entry.alarm.acted_by for entry in entries if entry.alarm and entry.alarm.acted_by})
        bounds = [_bounds(entry.risk, now) for entry in entries]
        return [
            WardRow(
                id=self.id_of(entry),
                patient=entry.patient,
                range=own_range,
                reasons=self._reasons_of(entry.risk, compute=reasons),
                signals=_signals(entry.risk, own_bounds, now),
                trend=_trend(courses.get(entry.risk.subject_id, ()), entry.risk, now),
                alarm=entry.alarm,
                people=people,
                latest_hours=_hours_since(entry.risk.latest_reading_at, now),
                bounds=own_bounds,
            )
            for entry, own_range, own_bounds in zip(entries, ranges, bounds, strict=True)
        ]

    def _ranges(self, entries: Sequence[WardEntry]) -> list[tuple[float, float] | None]:
        model = usable_model(self._champion.model)
        known = [row for row, entry in enumerate(entries) if entry.patient.probability is not None]
        ranges: list[tuple[float, float] | None] = [None] * len(entries)
        if model is None or not known:
            return ranges
        low, high = model.model.range_of(np.array([entries[row].patient.probability for row in known], dtype=np.float64))
        for row, *bounds in zip(known, low, high, strict=True):
            ranges[row] = (float(bounds[0]), float(bounds[1]))
        return ranges

    def _reasons_of(self, risk: WardRisk, *, compute: bool) -> Sequence[Contribution] | None:
        """Return the signals that speak most for a risk; None: they are not known yet."""
        if risk.basis != "model":
            return ()
        found = self._standing.reasons(risk) if compute else self._standing.known_reasons(risk)
        return None if found is None else tuple(one for one in found if one.log_odds > 0)[:REASONS]


def choose_visits(entries: Sequence[WardEntry], number: int) -> tuple[list[WardEntry], list[WardEntry], LeftOut]:
    """Return whom to see, whom that leaves out, and what is known of these.

    Patients of the band high come first, of them those whose alarm nobody has acknowledged. The others follow by the expected
    benefit of a visit, in true alarms (Vickers AJ, Elkin EB. Med Decis Making 2006;26:565-574); an open alarm only breaks ties,
    since it may be old.
    """
    chosen = sorted(entries, key=lambda entry: _worth_of_visit(entry.patient), reverse=True)
    seen, others = chosen[:number], chosen[number:]
    left_out = LeftOut(
        number=len(others),
        expected=sum(entry.patient.probability or 0.0 for entry in others),
        high=sum(entry.patient.band == "high" for entry in others),
        medium=sum(entry.patient.band == "medium" for entry in others),
    )
    return seen, others, left_out


def _worth_of_visit(patient: WardPatient) -> tuple[bool, bool, bool, float, bool, int, int, int]:
    """Return the sort key of a patient. Without a probability NEWS2 decides, as in :mod:`vigil.serving.api.ward_list`."""
    is_high, is_open = patient.band == "high", patient.alarm_status == "open"
    benefit = patient.expected_benefit
    worth = 0.0 if benefit is None else benefit
    decided = (is_high, is_high and is_open, is_high and benefit is None, worth, is_open)
    return (*decided, urgency_rank(patient.band), patient.news2, patient.news2_highest)


def _signals(risk: WardRisk, bounds: Sequence[StandingBound], now: int) -> list[SignalCell]:
    if risk.assessment is None:  # an earlier version did not store it
        return []
    return signal_cells(restore_assessment(risk).components, (now - risk.index_time) / 3.6e9, bounds)


def _bounds(risk: WardRisk, now: int) -> list[StandingBound]:
    bounds = [restore_bound(fields) for fields in risk.bounds or ()]
    terms = None if risk.terms is None else restore_terms(risk.terms)
    if terms is None or risk.assessment is None:
        return shown_bounds(bounds, now)
    return shown_bounds([*bounds, *find_breaches(restore_assessment(risk).components, risk.index_time, terms)], now)


def _trend(course: Sequence[tuple[int, float]], risk: WardRisk, now: int) -> Sparkline | None:
    return sparkline([time for time, _ in course], [value for _, value in course], now - _TREND, now, risk.threshold)


def _hours_since(time: int | None, now: int) -> float | None:
    return None if time is None else (now - time) / 3.6e9
