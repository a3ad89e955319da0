"""Cases of times: zones, how a source writes them, late readings, and clocks that are ahead."""

from collections.abc import Iterator, Mapping
from typing import Final
from zoneinfo import ZoneInfo

from vigil.features.cases.case import Case
from vigil.features.declarations import Declarations, SourceDeclaration


def _times(*cases: tuple[object, str, str], zone: str | None = None) -> Iterator[Case]:
    """Yield cases of one heart rate each, of a source that may declare its zone: ``observed_at``, outcome, and why."""
    declared = Declarations(SourceDeclaration(time_zone=None if zone is None else ZoneInfo(zone)))
    for observed_at, outcome, because in cases:
        yield Case(({"signal": "heart_rate", "value": 80, "observed_at": observed_at},), (outcome,), because, declared)


_GATEWAY_CLOCK: Final = Declarations(SourceDeclaration(counts_reception=True))
_HEART_RATE: Final = {"signal": "heart_rate", "value": 80}
_LOCAL: Final = Declarations(
    SourceDeclaration(time_zone=ZoneInfo("Europe/Berlin"), time_format="%d.%m.%Y %H:%M", decimal_comma=True)
)


TIMES: Final[Mapping[str, tuple[Case, ...]]] = {
    "Times": (
        *_times(
            ("2026-03-01T10:00:00+02:00", "heart_rate 80 /min", "Another zone, the same instant as 08:00 UTC."),
            ("2026-03-01T22:00:00+14:00", "heart_rate 80 /min", "The zone farthest ahead."),
            ("2026-03-01T08:00:00-00:00", "heart_rate 80 /min", "UTC, of an unknown place."),
            ("2026-03-01 08:00:00+00:00", "heart_rate 80 /min", "A blank in place of T."),
            ("20260301T080000Z", "heart_rate 80 /min", "The basic format of ISO 8601."),
            (
                "2026-03-01T07:59:59.123456789012Z",
                "heart_rate 80 /min at 2026-03-01T07:59:59.123456Z",
                "Microseconds are kept; the rest is cut off.",
            ),
            ("2026-03-01T08:00:00", "refused", "No zone; a wrong guess would shift every window."),
            ("2026-03-01", "missing_time", "A date; it must not become midnight."),
            ("2026-03", "missing_time", "A month."),
            ("2026", "missing_time", "A year."),
            ("20260301", "missing_time", "A date in the basic format."),
            ("202603", "missing_time", "A month; it must not become a second of 1970."),
            ("01/02/2026 08:00+00:00", "missing_time", "1 February or 2 January."),
            ("31/01/2026 08:00+00:00", "missing_time", "Not ISO 8601, although only one reading is possible."),
            ("5 Mar 2026 08:00+00:00", "missing_time", "Not ISO 8601."),
            ("2026-03-01T07:59:60Z", "missing_time", "A leap second that never was."),
            ("2026-02-29T08:00:00Z", "missing_time", "No such day."),
            ("9999-12-31T00:00:00Z", "missing_time", "An impossible year; often a placeholder."),
            ("0001-01-01T00:00:00Z", "missing_time", "An impossible year; often a placeholder."),
            ("yesterday", "missing_time", "No time."),
            (None, "missing_time", "No time."),
        ),
    ),
    "A local time of a source that declares its zone (Europe/Berlin)": (
        *_times(
            ("2026-03-01T09:00:00", "heart_rate 80 /min", "The zone of the source: 08:00 UTC."),
            ("2026-03-01T08:00:00Z", "heart_rate 80 /min", "A zone of its own counts first."),
            ("2025-03-30T02:30:00", "missing_time", "There was no such time: the clocks went forward."),
            ("2025-10-26T02:30:00", "missing_time", "There were two: the clocks went back."),
            (
                "2025-10-26T02:30:00+01:00",
                "heart_rate 80 /min at 2025-10-26T01:30:00Z",
                "With its offset it is one of the two.",
            ),
            ("2026-03-01", "missing_time", "A date; it must not become midnight."),
            zone="Europe/Berlin",
        ),
    ),
    "A source declares how it writes times and numbers (day first in Berlin, and a decimal comma)": tuple(
        Case(({"signal": "body_temperature", "unit": "Cel", "value": value, "observed_at": at},), (outcome,), because, _LOCAL)
        for value, at, outcome, because in (
            (
                36.6,
                "05.02.2026 08:00",
                "body_temperature 36.6 Cel at 2026-02-05T07:00:00Z",
                "5 February does not become 2 May.",
            ),
            (36.6, "2026-02-05T08:00:00Z", "missing_time", "Not as declared; two ways to write times are one too many."),
            (36.6, "30.03.2025 02:30", "missing_time", "There was no such time."),
            ("36,6", "05.02.2026 08:00", "body_temperature 36.6 Cel at 2026-02-05T07:00:00Z", "The comma is declared."),
            ("36.6", "05.02.2026 08:00", "not_a_number", "A point could divide thousands."),
            ("<35,5", "05.02.2026 08:00", "body_temperature_below_range 35.5 Cel at 2026-02-05T07:00:00Z", "A bound."),
        )
    ),
    "A source declares that the clock of the gateway counts": (
        Case(
            ({**_HEART_RATE, "observed_at": "2019-01-01T00:07:00Z", "received_at": "2026-03-01T08:00:00Z"},),
            ("heart_rate 80 /min",),
            "The clock of the device was never set; it was received at 08:00.",
            _GATEWAY_CLOCK,
        ),
        Case(
            ({**_HEART_RATE, "observed_at": "2026-03-01T08:00:00Z"},),
            ("missing_time",),
            "The gateway says nothing, and the clock of the device does not count.",
            _GATEWAY_CLOCK,
        ),
        Case(
            ({**_HEART_RATE, "observed_at": "2026-03-01T08:00:00Z", "received_at": "2026-03-01T08:05:00Z"},),
            ("heart_rate 80 /min",),
            "Without such a declaration the clock of the device counts.",
        ),
    ),
    "A reading is late, or ahead of the clock (it is 12:00)": (
        Case(
            ({**_HEART_RATE, "recorded_at": "2026-03-01T11:59:00Z"},),
            ("heart_rate 80 /min",),
            "Four hours late; it counts from its recording on.",
        ),
        Case(
            (
                {**_HEART_RATE, "recorded_at": "2026-03-01T11:00:00Z"},
                {**_HEART_RATE, "value": 90, "observed_at": "2026-03-01T10:00:00Z", "recorded_at": "2026-03-01T10:00:00Z"},
            ),
            ("heart_rate 80 /min", "heart_rate 90 /min at 2026-03-01T10:00:00Z"),
            "The latest is the one observed last, whichever arrived last.",
        ),
        Case(
            ({**_HEART_RATE, "observed_at": "2026-03-01T12:06:00Z", "recorded_at": "2026-03-01T12:00:00Z"},),
            ("recorded_before_observed",),
            "The clock of the device is ahead. Sent again after 12:06, it counts.",
        ),
        Case(
            ({**_HEART_RATE, "observed_at": "2027-03-01T08:00:00Z"},),
            ("in_the_future",),
            "A file that claims to have been recorded in the future.",
        ),
    ),
}
