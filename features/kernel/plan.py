"""The plan of the kernel: declared window features as arrays."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vigil.features.signals import STORED
from vigil.features.windows import STATISTICS, WindowFeature

SECOND_US: Final = 1_000_000
HOUR_US: Final = 3600 * SECOND_US
UNBOUNDED: Final = 2**62  # width of ``so_far`` in microseconds
FIRST_DAY: Final = -1  # width that stands for the first day

# Codes of the statistics: their positions in the table.
(
    COUNT, MEAN, MIN, MAX, STD, SLOPE, LAST, AGE, CHANGE, STEP, MEDIAN, IQR, DIFF_STD, EMA, HOURS_ABOVE, HOURS_BELOW,
    SUSTAINED, RECENT,
) = range(len(STATISTICS))  # fmt: skip

Int64 = NDArray[np.int64]


class Plan(NamedTuple):
    """The statistics that the kernel computes. Windows are numbered across all signals, and so are rules.

    A rule is the time above or below one threshold.

    Attributes:
        steps_per_unit: 1 / resolution of each signal, shape (n_signals,).
        windows: Signal s has the windows [windows[s], windows[s + 1]); shape (n_signals + 1,).
        width: Width of each window in microseconds, or :data:`UNBOUNDED` or :data:`FIRST_DAY`; shape (n_windows,).
        column: Output column of each statistic of each window, -1 if it is not computed; shape (n_windows, n_statistics).
        rules: Window w has the rules [rules[w], rules[w + 1]); shape (n_windows + 1,).
        threshold, above, rule_column: Threshold of each rule in steps, 1 if the rule is for time above it, and the output
            column; shape (n_rules,).
    """

    steps_per_unit: Int64
    windows: Int64
    width: Int64
    column: Int64
    rules: Int64
    threshold: Int64
    above: Int64
    rule_column: Int64


def order_by_signal(features: Sequence[WindowFeature]) -> tuple[WindowFeature, ...]:
    """Sort features by signal and remove duplicates. :func:`plan_kernel` and the output of the kernel use this order."""
    return tuple(sorted(dict.fromkeys(features), key=lambda feature: feature.signal))


def plan_kernel(features: tuple[WindowFeature, ...], signals: tuple[str, ...] | None = None) -> tuple[tuple[str, ...], Plan]:
    """Plan the computation of features.

    Args:
        features: Features in the order of :func:`order_by_signal`.
        signals: Signals of the observation series, in order. The default is the signals of the features. A signal without a
            feature costs no time.

    Returns:
        The signals in the order of the kernel, and the plan.
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
                    threshold.append(round(feature.threshold * STORED[signal].steps_per_unit))
                    above.append(int(feature.statistic == "hours_above"))
                    rule_column.append(column)
            rules.append(len(threshold))
        windows.append(len(width))
    steps_per_unit = [STORED[signal].steps_per_unit for signal in signals]
    by_window = np.array(columns).reshape(-1, len(STATISTICS))  # two-dimensional even without windows
    arrays = (steps_per_unit, windows, width, by_window, rules, threshold, above, rule_column)
    return signals, Plan(*(np.array(array, dtype=np.int64) for array in arrays))
