"""Alarms as callers read them, as DetectedIssues: of their wards, one by one and in pages."""

import re
from typing import Any, Final

from vigil.serving.api.alarm_actions import record_action
from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.chart import Chart
from vigil.serving.fhir.detected_issues import read_new_actions, to_detected_issue, version_of
from vigil.serving.fhir.outcomes import FhirError
from vigil.serving.fhir.search import Search
from vigil.serving.observability.metrics import Metrics
from vigil.serving.records.alarm_search import AlarmPlace, WantedAlarms
from vigil.serving.records.ward_rows import Alarm
from vigil.serving.records.ward_state import WardState

_PLACE: Final = re.compile(r"([0-9]{1,18})\.([0-9a-f-]{36})")
_HAS_ENDED: Final = {"preliminary": False, "final": True}  # by status


class AlarmPages:
    """The alarms of one home."""

    def __init__(self, chart: Chart, ward_state: WardState, metrics: Metrics) -> None:
        self._chart, self._ward_state, self._metrics = chart, ward_state, metrics

    def read(self, identity: str, caller: Caller) -> dict[str, Any] | None:
        """Return a DetectedIssue by its id; None: there is none that the caller may see."""
        alarm = self._find(identity, caller)
        return None if alarm is None else self._resource(alarm)

    def search(self, search: Search, caller: Caller) -> tuple[list[dict[str, Any]], str | None]:
        """Return a page of DetectedIssues, and where the next one begins; None: there is none."""
        place = None if search.after is None else _PLACE.fullmatch(search.after)
        statuses = {status.rpartition("|")[2] for status in search.tokens.get("status", _HAS_ENDED)} & _HAS_ENDED.keys()
        is_unknown = search.patient is not None and search.subject is None
        if is_unknown or not statuses or (search.after is not None and place is None):
            return [], None
        wanted = WantedAlarms(
            None if caller.wards is None else sorted(caller.wards),
            search.subject,
            search.ids,
            search.time("identified"),
            search.time("_lastUpdated"),
            _HAS_ENDED[statuses.pop()] if len(statuses) == 1 else None,
            newest_first=search.sort.startswith("-"),
        )
        after = None if place is None else AlarmPlace(int(place[1]), place[2])
        alarms = self._ward_state.alarm_page(wanted, after, search.count + 1)
        page = alarms[: search.count]
        following = f"{page[-1].opened_at}.{page[-1].alarm_id}" if len(alarms) > len(page) else None
        return [self._resource(alarm) for alarm in page], following

    def act(self, identity: str, resource: dict[str, Any], if_match: int | None, caller: Caller) -> dict[str, Any]:
        """Record what a client did about an alarm, and return the alarm as it is then.

        Raises:
            FhirError: there is no such alarm (404), it is not the version that the client has seen (409, 412), or something
                else was changed (422).
            ProblemError: another action stands.
        """
        alarm = self._find(identity, caller)
        if alarm is None:
            raise FhirError(404, "id: no such DetectedIssue is known")
        if if_match is not None and if_match != version_of(alarm):
            raise FhirError(412, "If-Match: expected the present version; read the resource again")
        for new in read_new_actions(alarm, resource, self._patient(alarm), caller.sub):
            alarm = record_action(self._ward_state, self._metrics, caller, identity, new.action, new.reason)
        return self._resource(alarm)

    def _find(self, identity: str, caller: Caller) -> Alarm | None:
        alarm = self._ward_state.alarm(identity)
        return alarm if alarm is not None and caller.can_see(alarm.ward) else None

    def _resource(self, alarm: Alarm) -> dict[str, Any]:
        return to_detected_issue(alarm, self._patient(alarm))

    def _patient(self, alarm: Alarm) -> str:
        return self._chart.directory.reference(self._chart.survivor(alarm.subject_id))
