"""Window features, declared: signal x statistic x window. The name says all three: ``heart_rate_slope_6h``."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from features.signals import SIGNALS

Reflects = Literal["physiology", "workflow"]
Window = int | Literal["so_far", "first_day"]
"""Whole hours: the half-open interval (t - w, t]. ``so_far``: everything up to t. ``first_day``: the 24 h that begin with the
signal's first reading, as far as they lie before t."""

# A reading speaks for the time until the next one, but for no longer than this: nobody looked.
HOLD_HOURS: Final = 1
# Half-lives of the exponentially weighted mean in its window: the oldest reading weighs 1/64 of the latest.
EMA_HALF_LIVES: Final = 6
# Where this many readings lie within so many minutes up to the latest, their median speaks for the signal, so that an artefact
# of a minute does not. A median filter keeps true steps and drops short artefacts: Makivirta A, et al. The median filter as a
# preprocessor for a patient monitor limit alarm system in intensive care. Comput Methods Programs Biomed 1991;34:139-144. The
# length is ours: the longest artefacts of the simulated ward last as long.
SUSTAINED_MINUTES: Final = 15
SUSTAINED_READINGS: Final = 5
# A signal with so many readings within this time comes continuously: nurses chart hourly at most (RCP 2017, chart 4), an
# automatic cuff measures every 15 to 30 minutes. Once it has ceased to come, its latest reading stands for it.
CONTINUOUS_MINUTES: Final = 90
CONTINUOUS_READINGS: Final = 3


@dataclass(frozen=True, slots=True)
class Feature:
    """What a reader needs to know of a feature.

    Attributes:
        name: column name.
        signal: the signal, score or characteristic it speaks of; explanations are grouped by it.
        unit: UCUM unit.
        description: one line for catalogues, plots and reports.
        reflects: ``physiology`` (what was measured) or ``workflow`` (when and how often somebody measured, and where the
            patient is in the course of care): the part of a model that does not travel to another hospital.
        statistic, window: what is computed, over what.
        source: where the definition comes from, for scores and thresholds.
    """

    name: str
    signal: str
    unit: str
    description: str
    reflects: Reflects = "physiology"
    statistic: str = "value"
    window: str = "at t"
    source: str = ""


@dataclass(frozen=True, slots=True)
class Statistic:
    """A statistic of the readings in a window.

    Attributes:
        meaning: in words.
        unit: its unit, ``{unit}`` standing for the signal's.
        reflects: as of a feature.
        windows: ``hours`` where only a window of so many hours makes sense; ``any`` where also the unbounded ones do. Of
            those, readings long past may be summed up and forgotten (:mod:`features.online`); ``not_first_day`` where only
            ``so_far`` does.
        threshold: whether it needs one.
    """

    meaning: str
    unit: str = "{unit}"
    reflects: Reflects = "physiology"
    windows: Literal["hours", "any", "not_first_day"] = "hours"
    threshold: bool = False


# In the order of their codes in the kernel.
STATISTICS: Final = {
    "count": Statistic("number of readings", "{{count}}", "workflow", "any"),
    "mean": Statistic("mean", windows="any"),
    "min": Statistic("lowest"),
    "max": Statistic("highest"),
    "std": Statistic("standard deviation (n - 1)", windows="not_first_day"),
    "slope": Statistic("least-squares slope per hour", "{unit}/h"),
    "last": Statistic("latest reading", windows="not_first_day"),
    "age": Statistic("hours since the latest reading", "h", "workflow", "not_first_day"),
    "change": Statistic("latest minus earliest reading"),
    "step": Statistic("latest reading minus the one before it"),
    "median": Statistic("median"),
    "iqr": Statistic("distance between the quartiles (linear between readings)"),
    "diff_std": Statistic("standard deviation (n - 1) of the differences between neighbouring readings"),
    "ema": Statistic(
        f"mean with weights that halve with each {EMA_HALF_LIVES}th part of the window back from the latest reading"
    ),
    "hours_above": Statistic(f"hours above the threshold (a reading holds for {HOLD_HOURS} h at most)", "h", threshold=True),
    "hours_below": Statistic(f"hours below the threshold (a reading holds for {HOLD_HOURS} h at most)", "h", threshold=True),
    "sustained": Statistic(
        f"median of the {SUSTAINED_MINUTES} minutes up to the latest reading, if that is not older than {CONTINUOUS_MINUTES} "
        f"minutes; else, and with fewer than {SUSTAINED_READINGS} readings in them, the latest"
    ),
    "recent": Statistic(f"number of readings in the last {CONTINUOUS_MINUTES} minutes", "{{count}}", "workflow"),
}


@dataclass(frozen=True, slots=True)
class WindowFeature:
    """One statistic of one signal over one window.

    Attributes:
        signal: a name in the signal table.
        statistic: one of :data:`STATISTICS`.
        window: hours, or a name of :data:`Window`.
        threshold: for the statistics that need one, in the signal's unit and on its resolution.
        source: where the threshold comes from.
    """

    signal: str
    statistic: str
    window: Window
    threshold: float | None = None
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.signal not in SIGNALS:
            raise ValueError(f"window feature: unknown signal {self.signal!r}; expected one of {', '.join(SIGNALS)}")
        if self.statistic not in STATISTICS:
            raise ValueError(f"window feature: unknown statistic {self.statistic!r}; expected one of {', '.join(STATISTICS)}")
        statistic = STATISTICS[self.statistic]
        if isinstance(self.window, str):
            if self.window not in {"so_far", "first_day"}:
                raise ValueError(f"window feature: unknown window {self.window!r}; expected hours, so_far or first_day")
            if statistic.windows == "hours" or (statistic.windows == "not_first_day" and self.window == "first_day"):
                raise ValueError(f"window feature: no {self.statistic} over {self.window}; expected a window in hours")
        elif self.window < 1:
            raise ValueError(f"window feature: window of {self.window} h; expected at least 1")
        if statistic.threshold != (self.threshold is not None):
            raise ValueError(
                f"window feature: {self.statistic} {'needs a' if statistic.threshold else 'takes no'} threshold; "
                "expected one for hours_above and hours_below only"
            )
        steps = (self.threshold or 0) * SIGNALS[self.signal].steps_per_unit
        if abs(steps - round(steps)) > 1e-6:
            raise ValueError(
                f"window feature: threshold {self.threshold} lies between two steps of {self.signal}; "
                f"expected a multiple of {SIGNALS[self.signal].resolution}"
            )

    @property
    def name(self) -> str:
        """Column name, such as ``spo2_min_24h``, ``spo2_hours_below_92_24h`` or ``spo2_mean_so_far``."""
        at = "" if self.threshold is None else f"_{self.threshold:g}".replace(".", "p")
        return f"{self.signal}_{self.statistic}{at}_{self._window}"

    @property
    def feature(self) -> Feature:
        """The same for a reader."""
        statistic = STATISTICS[self.statistic]
        unit = SIGNALS[self.signal].unit
        at = "" if self.threshold is None else f" {self.threshold:g} {unit}"
        over = {"so_far": "so far", "first_day": "on the first day"}.get(self._window, f"in the last {self.window} h")
        return Feature(
            name=self.name,
            signal=self.signal,
            unit=statistic.unit.format(unit=unit),
            description=f"{self.signal.replace('_', ' ')}: {statistic.meaning.replace(' the threshold', at)} {over}",
            reflects=statistic.reflects,
            statistic=self.statistic,
            window=over.removeprefix("in the ").removeprefix("on the "),
            source=self.source,
        )

    @property
    def _window(self) -> str:
        return self.window if isinstance(self.window, str) else f"{self.window}h"


def over(signals: Iterable[str], window: Window, *statistics: str) -> tuple[WindowFeature, ...]:
    """Declare the given statistics of each signal over one window."""
    return tuple(WindowFeature(signal, statistic, window) for signal in signals for statistic in statistics)
