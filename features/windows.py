"""Window features, declared: signal x statistic x window. The name says all three: ``heart_rate_slope_6h``."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from features.signals import SIGNALS

# Statistics of the readings in a window (t - w, t], in the order in which the kernel returns them.
STATISTICS: Final = ("count", "mean", "min", "max", "std", "slope", "last", "age", "change")

_MEANING: Final = {
    "count": "number of readings",
    "mean": "mean",
    "min": "lowest",
    "max": "highest",
    "std": "standard deviation (n - 1)",
    "slope": "least-squares slope per hour",
    "last": "latest reading",
    "age": "hours since the latest reading",
    "change": "latest minus earliest reading",
}


@dataclass(frozen=True, slots=True)
class WindowFeature:
    """One statistic of one signal over one window.

    Attributes:
        signal: a name in the signal table.
        statistic: one of :data:`STATISTICS`.
        hours: window length in whole hours; the window at t is the half-open interval (t - hours, t].
    """

    signal: str
    statistic: str
    hours: int

    def __post_init__(self) -> None:
        if self.signal not in SIGNALS:
            raise ValueError(f"window feature: unknown signal {self.signal!r}; expected one of {', '.join(SIGNALS)}")
        if self.statistic not in STATISTICS:
            raise ValueError(f"window feature: unknown statistic {self.statistic!r}; expected one of {', '.join(STATISTICS)}")
        if self.hours < 1:
            raise ValueError(f"window feature: window of {self.hours} h; expected at least 1")

    @property
    def name(self) -> str:
        """Column name, such as ``spo2_min_24h``."""
        return f"{self.signal}_{self.statistic}_{self.hours}h"

    @property
    def unit(self) -> str:
        """UCUM unit of the feature."""
        unit = SIGNALS[self.signal].unit
        return {"count": "{count}", "age": "h", "slope": f"{unit}/h"}.get(self.statistic, unit)

    @property
    def description(self) -> str:
        """What the feature is, for catalogues and reports."""
        return f"{self.signal.replace('_', ' ')}: {_MEANING[self.statistic]} in the last {self.hours} h"


def over(signals: Iterable[str], hours: int, *statistics: str) -> tuple[WindowFeature, ...]:
    """Declare the given statistics of each signal over one window."""
    return tuple(WindowFeature(signal, statistic, hours) for signal in signals for statistic in statistics)
