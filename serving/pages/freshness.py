"""When a patient is out of date: the pages of the ward and of the patient say it by the same rule."""

from collections.abc import Collection
from typing import Final

from vigil.models.alarms.safety_net import Band

# Hours between measurements: RCP 2017, chart 4. At NEWS2 of 7 or more it asks for continuous monitoring; the half hour is ours.
_LONGEST_BETWEEN: Final = {"high": 0.5, "medium": 1.0}
_LONGEST_BETWEEN_POINTS: Final = 6.0
_LONGEST_BETWEEN_NONE: Final = 12.0
_FINDINGS: Final = frozenset({"stale_data", "silent", "signal_stopped"})


def is_overdue(latest_hours: float | None, band: Band, news2: int) -> bool:
    """Return whether a patient should have been measured again by now.

    Args:
        latest_hours: age of the latest reading; None: there was none within a day.
        band: of the patient.
        news2: of the patient.

    >>> is_overdue(0.7, "high", 9), is_overdue(0.7, "low", 0), is_overdue(None, "low", 0)
    (True, False, True)
    """
    if latest_hours is None:
        return True
    return latest_hours > _LONGEST_BETWEEN.get(band, _LONGEST_BETWEEN_POINTS if news2 else _LONGEST_BETWEEN_NONE)


def is_out_of_date(latest_hours: float | None, band: Band, news2: int, findings: Collection[str]) -> bool:
    """Return whether what is shown of a patient is out of date, or nothing arrives any more; see :func:`is_overdue`."""
    return is_overdue(latest_hours, band, news2) or not _FINDINGS.isdisjoint(findings)
