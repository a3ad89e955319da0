"""Times of FHIR as instants. A date is no instant, and no zone or time of day is made up."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from vigil.serving.fhir.refusals import RefusedError

LONGEST_PERIOD: Final = timedelta(minutes=5)  # of a reading; ours: monitors send averages over seconds to minutes

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
# The data types dateTime and instant of R4 (https://hl7.org/fhir/R4/datatypes.html), without the second 60.
_INSTANT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?"
    r"(?:Z|[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00))"
)
_DATE: Final = re.compile(r"[0-9]{4}(?:-(?:0[1-9]|1[0-2])(?:-(?:0[1-9]|[12][0-9]|3[01]))?)?")
_ZONELESS: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?")
_EXPECTED: Final = "an instant with seconds and time zone, such as 2026-01-31T08:00:00Z"
_EFFECTIVE: Final = ("effectiveDateTime", "effectiveInstant", "effectivePeriod", "effectiveTiming")


def read_instant(text: Any, path: str) -> int:
    """Return a time in microseconds since 1970, UTC; digits beyond microseconds are cut off.

    Raises:
        RefusedError: it is no instant: ``imprecise_time`` for a date, ``missing_time`` for what has no zone or is no time.

    >>> read_instant("2026-01-31T08:00:00.000000999+01:00", "Observation.effective")
    1769842800000000
    """
    if isinstance(text, str) and _INSTANT.fullmatch(text):
        try:
            return (datetime.fromisoformat(text) - EPOCH) // MICROSECOND
        except ValueError:
            raise RefusedError("missing_time", path, "a day of the calendar", _EXPECTED) from None
    if isinstance(text, str) and _DATE.fullmatch(text):
        raise RefusedError("imprecise_time", path, "a date is no time of a reading, and never midnight", _EXPECTED)
    rule = "dateTime: a time of day has a zone" if isinstance(text, str) and _ZONELESS.fullmatch(text) else "dateTime"
    raise RefusedError("missing_time", path, rule, _EXPECTED)


def read_instant_or_none(text: Any) -> int | None:
    """Return a time in microseconds since 1970, UTC; None: it is no instant."""
    try:
        return read_instant(text, "")
    except RefusedError:
        return None


def write_instant(time: datetime) -> str:
    """Return a time in UTC as FHIR writes it, to the millisecond.

    >>> write_instant(datetime(2026, 1, 31, 8, tzinfo=UTC))
    '2026-01-31T08:00:00.000Z'
    """
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_microseconds(time: int, timespec: str = "auto") -> str:
    """Return a time in microseconds since 1970, UTC, as FHIR writes it: exactly, or to the ``milliseconds``.

    >>> write_microseconds(1769842800250000), write_microseconds(1769842800250001, "milliseconds")
    ('2026-01-31T07:00:00.250000Z', '2026-01-31T07:00:00.250Z')
    """
    return (EPOCH + timedelta(microseconds=time)).isoformat(timespec=timespec).replace("+00:00", "Z")


def read_effective(resource: Mapping[str, Any], longest: timedelta = LONGEST_PERIOD) -> int:
    """Return when an Observation was observed, in microseconds since 1970, UTC. ``issued`` never takes its place.

    A period of up to ``longest`` counts as its end; a Timing counts if it is one event.

    Raises:
        RefusedError: ``missing_time``, ``imprecise_time``, ``interval`` or ``malformed``.
    """
    if "effectiveDateTime" in resource:
        time = read_instant(resource["effectiveDateTime"], "Observation.effective.ofType(dateTime)")
    elif "effectiveInstant" in resource:
        time = read_instant(resource["effectiveInstant"], "Observation.effective.ofType(instant)")
    elif "effectivePeriod" in resource:
        time = _end_of_period(resource["effectivePeriod"], longest)
    elif "effectiveTiming" in resource:
        time = _event_of_timing(resource["effectiveTiming"])
    else:
        raise RefusedError("missing_time", "Observation.effective", "effective[x] is missing", _EXPECTED)
    if sum(name in resource for name in _EFFECTIVE) > 1:
        raise RefusedError("malformed", "Observation.effective", "effective[x]: one of its types", "one effective[x]")
    return time


def _end_of_period(period: Any, longest: timedelta) -> int:
    path = "Observation.effective.ofType(Period)"
    if not isinstance(period, Mapping):
        raise RefusedError("malformed", path, "Period", "an object with start and end")
    if "start" not in period or "end" not in period:
        raise RefusedError("interval", path, "a reading is of one time", "start and end, or effectiveDateTime")
    start, end = read_instant(period["start"], f"{path}.start"), read_instant(period["end"], f"{path}.end")
    if end < start:
        raise RefusedError("malformed", path, "per-1", "an end that is not before the start")
    if end - start > longest // MICROSECOND:
        minutes = longest // timedelta(minutes=1)
        raise RefusedError("interval", path, "a value of a long period is no reading", f"a period of at most {minutes} min")
    return end


def _event_of_timing(timing: Any) -> int:
    path = "Observation.effective.ofType(Timing)"
    if not isinstance(timing, Mapping):
        raise RefusedError("malformed", path, "Timing", "an object with one event")
    events = timing.get("event")
    if "repeat" in timing or not isinstance(events, list) or len(events) != 1:
        raise RefusedError("interval", path, "a reading is of one time", "one event, without repeat")
    return read_instant(events[0], f"{path}.event[0]")
