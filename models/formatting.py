"""Numbers in words: decimals, percentages and intervals, as gates, reports, model cards and the command line show them."""

import math
from collections.abc import Mapping
from typing import Any, Final

NONE: Final = "-"  # shown in place of a missing value


def format_number(value: float | None, digits: int = 3, *, signed: bool = False) -> str:
    """Return a number with a fixed count of decimals; a dash if it is missing.

    >>> format_number(0.8294), format_number(0.5, 1, signed=True), format_number(None)
    ('0.829', '+0.5', '-')
    """
    if value is None or math.isnan(value):
        return NONE
    return f"{round(value, digits) + 0.0:{'+' if signed else ''}.{digits}f}"  # + 0.0: no negative zero


def format_percent(value: float | None, digits: int = 0) -> str:
    """Return a share in percent; a dash if it is missing.

    >>> format_percent(0.614), format_percent(0.0712, 2)
    ('61 %', '7.12 %')
    """
    return NONE if value is None else f"{format_number(100 * value, digits)} %"


def format_interval(row: Mapping[str, Any], metric: str, digits: int = 3, *, signed: bool = False) -> str:
    """Return a metric of a row with its 95 % interval.

    >>> format_interval({"auroc": 0.829, "auroc_low": 0.813, "auroc_high": 0.845}, "auroc")
    '0.829 (0.813-0.845)'
    """
    value, low, high = (row.get(f"{metric}{end}") for end in ("", "_low", "_high"))
    return format_number(value, digits, signed=signed) + format_limits(low, high, digits, signed=signed)


def format_percent_interval(row: Mapping[str, Any], metric: str, digits: int = 0) -> str:
    """Return a share of a row in percent, with its 95 % interval.

    >>> format_percent_interval({"recall": 0.61, "recall_low": 0.58, "recall_high": 0.64}, "recall")
    '61 % (58-64)'
    """
    value, low, high = (row.get(f"{metric}{end}") for end in ("", "_low", "_high"))
    if low is None or high is None:
        return format_percent(value, digits)
    return format_percent(value, digits) + format_limits(100 * low, 100 * high, digits)


def format_limits(low: float | None, high: float | None, digits: int, *, signed: bool = False) -> str:
    """Return the two limits of an interval in brackets, with a leading space; nothing if one is missing."""
    if low is None or high is None:
        return ""
    between = " to " if signed or low < 0 else "-"
    return f" ({format_number(low, digits, signed=signed)}{between}{format_number(high, digits, signed=signed)})"
