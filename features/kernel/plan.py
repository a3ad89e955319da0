"""Declared window features, laid out as the arrays that the kernel reads."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.signals import SIGNALS
from features.windows import STATISTICS, WindowFeature

SECOND_US: Final = 1_000_000
HOUR_US: Final = 3600 * SECOND_US
UNBOUNDED: Final = 2**62  # the width of ``so_far``, microseconds
FIRST_DAY: Final = -1  # stands for the first day among the widths

# Codes of the statistics: their places in the table.
(
    COUNT, MEAN, MIN, MAX, STD, SLOPE, LAST, AGE, CHANGE, STEP, MEDIAN, IQR, DIFF_STD, EMA, HOURS_ABOVE, HOURS_BELOW,
    SUSTAINED, RECENT,
) = range(len(STATISTICS))  # fmt: skip

Int64 = NDArray[np.int64]


class Plan(NamedTuple):
    """What the kernel is to compute. Windows are numbered through all signals, and so are rules.

    Attributes:
        steps_per_unit: of each signal.
        windows: where the windows of a signal begin, shape (n_signals + 1,).
        width: of each window in microseconds, or :data:`UNBOUNDED` or :data:`FIRST_DAY`.
        column: the column of each statistic of each window, -1 where it is not asked for; shape (n_windows, n_statistics).
        rules: where the rules (time above or below a threshold) of a window begin, shape (n_windows + 1,).
        threshold, above, rule_column: of each rule: steps, 1 if above, column.
    """

    steps_per_unit: Int64
    windows: Int64
    width: Int64
    column: Int64
    rules: Int64
    threshold: Int64
    above: Int64
    rule_column: Int64


def in_order(features: Sequence[WindowFeature]) -> tuple[WindowFeature, ...]:
    """The features once each, by signal: the order in which :func:`plan_of` takes and the kernel returns them."""
    return tuple(sorted(dict.fromkeys(features), key=lambda feature: feature.signal))


def plan_of(features: tuple[WindowFeature, ...], signals: tuple[str, ...] | None = None) -> tuple[tuple[str, ...], Plan]:
    """The signals in the kernel's order, and the plan for features that are in order.

    Args:
        features: what is to be computed.
        signals: those of the readings, in their order; one without a feature costs nothing. Without them those of the features.
    """
    if signals is None:
        signals = tuple(dict.fromkeys(feature.signal for feature in features))
    windows, width, columns, rules, threshold, above, rule_column = [0], [], [], [0], [], [], []
    for signal in signals:
        of_signal = {column: feature for column, feature in enumerate(features) if feature.signal == signal}
        for window in dict.fromkeys(feature.window for feature in of_signal.values()):
            width.append({"so_far": UNBOUNDED, "first_day": FIRST_DAY}.get(str(window)) or int(window) * HOUR_US)
            columns.append([-1] * len(STATISTICS))
            for column, feature in of_signal.items():
                if feature.window != window:
                    continue
                if feature.threshold is None:
                    columns[-1][list(STATISTICS).index(feature.statistic)] = column
                else:
                    threshold.append(round(feature.threshold * SIGNALS[signal].steps_per_unit))
                    above.append(int(feature.statistic == "hours_above"))
                    rule_column.append(column)
            rules.append(len(threshold))
        windows.append(len(width))
    steps_per_unit = [SIGNALS[signal].steps_per_unit for signal in signals]
    by_window = np.array(columns).reshape(-1, len(STATISTICS))  # two dimensions even if there is no window
    arrays = (steps_per_unit, windows, width, by_window, rules, threshold, above, rule_column)
    return signals, Plan(*(np.array(array, dtype=np.int64) for array in arrays))
