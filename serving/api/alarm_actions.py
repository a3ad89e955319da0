"""What callers do about alarms: one way to record it, behind every door."""

from typing import Final

from vigil.serving.api import problems
from vigil.serving.api.problems import ProblemError
from vigil.serving.auth.tokens import Caller
from vigil.serving.observability.metrics import Metrics
from vigil.serving.records.timestamps import present
from vigil.serving.records.ward_rows import Action, Alarm
from vigil.serving.records.ward_state import AlreadyDoneError, WardState

# Why an alarm was not right, with the words for people.
OVERRIDE_REASONS: Final = {
    "false_alarm": "False alarm",
    "expected_for_this_patient": "Expected for this patient",
    "artefact": "Artefact of measurement",
    "already_treated": "Already treated",
    "palliative_care": "Palliative care",
    "other": "Other",
}
OVERRIDE_REASON_SYSTEM: Final = "urn:vigil:override-reason"
MAX_NOTE: Final = 500  # characters
_SEPARATOR: Final = ": "


def join_reason(code: str, note: str | None) -> str:
    """Return a reason as it is stored: a key of :data:`OVERRIDE_REASONS`, perhaps with a note."""
    return f"{code}{_SEPARATOR}{note}" if note else code


def split_reason(reason: str) -> tuple[str | None, str | None]:
    """Return the code and the note that :func:`join_reason` joined; without a code that is known it is all a note.

    >>> split_reason("artefact: probe off"), split_reason("other"), split_reason("see the chart")
    (('artefact', 'probe off'), ('other', None), (None, 'see the chart'))
    """
    code, _, note = reason.partition(_SEPARATOR)
    return (code, note or None) if code in OVERRIDE_REASONS else (None, reason)


def record_action(
    ward_state: WardState, metrics: Metrics, caller: Caller, alarm_id: str, action: Action, reason: str | None
) -> Alarm:
    """Record what the caller did about an alarm, and return the alarm as it is then.

    Raises:
        ProblemError: there is no such alarm, or another action stands.
    """
    alarm = ward_state.alarm(alarm_id)
    if alarm is None or not caller.can_see(alarm.ward):
        raise ProblemError(problems.unknown_alarm())
    try:
        if ward_state.record_action(alarm_id, action, caller.sub, reason, present()):
            metrics.count_action(action)
    except AlreadyDoneError as error:
        raise ProblemError(problems.already_done(error.status)) from None
    after = ward_state.alarm(alarm_id)
    if after is None:  # retention deleted it meanwhile
        raise ProblemError(problems.unknown_alarm())
    return after
