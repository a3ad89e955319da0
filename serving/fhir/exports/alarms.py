"""Alarms in exports, as DetectedIssues.

They are stored a while after the readings that they are about, under the time of these. So an export that continues another one
tells those again that changed within a day before it.
"""

from collections.abc import Iterator
from typing import Final

from vigil.serving.fhir.detected_issues import to_detected_issue
from vigil.serving.fhir.exports.parts import Gone, Part, Told
from vigil.serving.records.alarm_search import AlarmPlace, WantedAlarms
from vigil.serving.records.journal_exports import Member
from vigil.serving.records.journal_readings import ALWAYS, LAST, Interval
from vigil.serving.records.ward_rows import Alarm

_SLACK: Final = 86_400_000_000  # microseconds in which the rescorer is back, if it was not running
_PAGE: Final = 1_000


def export_alarms(told: Told, member: Member) -> Iterator[Part]:
    """Yield the alarms of a patient, with what was done about them."""
    patient = told.directory.reference(member.subject)
    for key in member.keys:
        is_whole = told.since is None or key in member.whole
        changed = ALWAYS if is_whole or told.since is None else Interval(told.since - _SLACK, LAST)
        for alarm in _alarms(told, key, changed):
            yield to_detected_issue(alarm, patient)
    for key in sorted(member.lost):
        for alarm in _alarms(told, key, ALWAYS):
            yield Gone("DetectedIssue", alarm.alarm_id)


def _alarms(told: Told, key: str, changed: Interval) -> Iterator[Alarm]:
    wanted = WantedAlarms(told.wards, key, opened=Interval(-LAST, told.until), changed=changed)
    after: AlarmPlace | None = None
    while True:
        page = told.ward_state.alarm_page(wanted, after, _PAGE)
        yield from page
        if len(page) < _PAGE:
            return
        after = AlarmPlace(page[-1].opened_at, page[-1].alarm_id)
