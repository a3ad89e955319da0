"""Declarations of window features: a signal, a statistic and a window. The name states all three: ``heart_rate_slope_6h``."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from vigil.features.signals import SIGNALS, STORED

Reflects = Literal["physiology", "workflow"]
Window = int | Literal["so_far", "first_day"]
"""A number w of whole hours is the half-open interval (t - w, t]. ``so_far`` is everything up to t. ``first_day`` is the 24 h
that begin with the first observation of the signal, as far as they lie before t."""

# A value is taken to hold until the next observation, but for no longer than this. After that the value is unknown.
HOLD_HOURS: Final = 1
# Half-lives of the exponentially weighted mean in its window: the oldest observation has 1/64 of the weight of the latest.
EMA_HALF_LIVES: Final = 6
# If at least this many observations lie within this many minutes up to the latest one, their median represents the signal. An
# artefact of a minute then has no effect. A median filter keeps true steps and removes short artefacts: Makivirta A, et al. The
# median filter as a preprocessor for a patient monitor limit alarm system in intensive care. Comput Methods Programs Biomed
# 1991;34:139-144. The length is our choice: it equals that of the longest artefacts of the simulated ward.
SUSTAINED_MINUTES: Final = 15
SUSTAINED_MIN_COUNT: Final = 5
# A signal with at least this many observations within this time is continuous. Nurses chart hourly at most (RCP 2017, chart 4).
# An automatic cuff measures every 15 to 30 minutes. After a continuous signal has ended, its latest value represents it.
CONTINUOUS_MINUTES: Final = 90
CONTINUOUS_MIN_COUNT: Final = 3


@dataclass(frozen=True, slots=True)
class Feature:
    """The description of a feature for readers.

    Attributes:
        name: Column name.
        signal: The signal, score or characteristic that the feature is about. Explanations are grouped by it.
        unit: UCUM unit.
        description: One line for catalogues, plots and reports.
        reflects: ``physiology``: what was measured. ``workflow``: when and how often staff measured, and where the patient is
            in the course of care. A model does not carry over to another hospital by its workflow features.
        statistic, window: What is computed, and over which window.
        source: Publication that defines the score or threshold.
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
    """A statistic of the observations in a window.

    Attributes:
        meaning: Definition in words.
        unit: Unit of the statistic, in which ``{unit}`` stands for the unit of the signal.
        reflects: As in :class:`Feature`.
        windows: ``hours``: only windows of a number of hours are allowed. ``any``: unbounded windows are allowed too; old
            observations may then be replaced by their sums (:mod:`vigil.features.online`). ``not_first_day``: like ``any``, but
            without ``first_day``.
        threshold: Whether the statistic needs a threshold.
    """

    meaning: str
    unit: str = "{unit}"
    reflects: Reflects = "physiology"
    windows: Literal["hours", "any", "not_first_day"] = "hours"
    threshold: bool = False


# The order defines the codes of the statistics in the kernel.
STATISTICS: Final = {
    "count": Statistic("number of observations", "{{count}}", "workflow", "any"),
    "mean": Statistic("mean", windows="any"),
    "min": Statistic("lowest value"),
    "max": Statistic("highest value"),
    "std": Statistic("standard deviation (n - 1)", windows="not_first_day"),
    "slope": Statistic("least-squares slope per hour", "{unit}/h"),
    "last": Statistic("latest value", windows="not_first_day"),
    "age": Statistic("hours since the latest observation", "h", "workflow", "not_first_day"),
    "change": Statistic("latest minus earliest value"),
    "step": Statistic("latest value minus the one before it"),
    "median": Statistic("median"),
    "iqr": Statistic("interquartile range (linear between values)"),
    "diff_std": Statistic("standard deviation (n - 1) of the differences between successive values"),
    "ema": Statistic(
        f"mean with weights that halve with each {EMA_HALF_LIVES}th of the window back from the latest observation"
    ),
    "hours_above": Statistic(f"hours above the threshold (a value holds for at most {HOLD_HOURS} h)", "h", threshold=True),
    "hours_below": Statistic(f"hours below the threshold (a value holds for at most {HOLD_HOURS} h)", "h", threshold=True),
    "sustained": Statistic(
        f"median of the {SUSTAINED_MINUTES} minutes up to the latest observation, if they hold at least {SUSTAINED_MIN_COUNT} "
        f"observations and the latest is less than {CONTINUOUS_MINUTES} minutes old; if not, the latest value"
    ),
    "recent": Statistic(f"number of observations in the last {CONTINUOUS_MINUTES} minutes", "{{count}}", "workflow"),
}


@dataclass(frozen=True, slots=True)
class WindowFeature:
    """The declaration of one statistic of one signal over one window.

    Attributes:
        signal: A name of the signal table.
        statistic: A name of :data:`STATISTICS`.
        window: Hours, or a name of :data:`Window`.
        threshold: Threshold in the signal's unit and on its resolution, for statistics that need one.
        source: Publication that the threshold comes from.

    Raises:
        ValueError: The declaration is inconsistent. The message says what was expected.
    """

    signal: str
    statistic: str
    window: Window
    threshold: float | None = None
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if self.signal not in STORED:
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
        steps = (self.threshold or 0) * STORED[self.signal].steps_per_unit
        if abs(steps - round(steps)) > 1e-6:
            raise ValueError(
                f"window feature: threshold {self.threshold} lies between two steps of {self.signal}; "
                f"expected a multiple of {STORED[self.signal].resolution}"
            )

    @property
    def name(self) -> str:
        """Column name, such as ``spo2_min_24h``, ``spo2_hours_below_92_24h`` or ``spo2_mean_so_far``."""
        threshold = "" if self.threshold is None else f"_{self.threshold:g}".replace(".", "p")
        return f"{self.signal}_{self.statistic}{threshold}_{self._window_name}"

    @property
    def feature(self) -> Feature:
        """Description of the feature for readers."""
        statistic = STATISTICS[self.statistic]
        unit = STORED[self.signal].unit
        threshold = "" if self.threshold is None else f" {self.threshold:g} {unit}"
        period = {"so_far": "so far", "first_day": "on the first day"}.get(self._window_name, f"in the last {self.window} h")
        return Feature(
            name=self.name,
            signal=self.signal,
            unit=statistic.unit.format(unit=unit),
            description=f"{self.signal.replace('_', ' ')}: {statistic.meaning.replace(' the threshold', threshold)} {period}",
            reflects=statistic.reflects,
            statistic=self.statistic,
            window=period.removeprefix("in the ").removeprefix("on the "),
            source=self.source,
        )

    @property
    def _window_name(self) -> str:
        return self.window if isinstance(self.window, str) else f"{self.window}h"


def declare_statistics(signals: Iterable[str], window: Window, *statistics: str) -> tuple[WindowFeature, ...]:
    """Declare the given statistics of each signal over one window.

    >>> [feature.name for feature in declare_statistics(["heart_rate", "spo2"], 6, "mean", "slope")]
    ['heart_rate_mean_6h', 'heart_rate_slope_6h', 'spo2_mean_6h', 'spo2_slope_6h']
    """
    return tuple(WindowFeature(signal, statistic, window) for signal in signals for statistic in statistics)
