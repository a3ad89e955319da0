"""The slow, obvious implementation of every window statistic, that the kernel is held against."""

import math

import pandas as pd

Reading = tuple[pd.Timestamp, pd.Timestamp, float]  # observed_at, recorded_at, value


def window_statistic(readings: list[Reading], t: pd.Timestamp, hours: int, statistic: str) -> float:
    """One statistic of one patient's readings of one signal: plain Python, one reading at a time."""
    known = [
        (observed, recorded, value)
        for observed, recorded, value in readings
        if t - pd.Timedelta(hours=hours) < observed <= t and recorded <= t
    ]
    known.sort()
    times = [math.floor(observed.timestamp()) / 3600 for observed, _, _ in known]  # hours, to the second
    values = [value for _, _, value in known]
    n = len(values)
    if statistic == "count":
        return n
    if n == 0:
        return math.nan
    mean = sum(values) / n
    if statistic in {"mean", "min", "max", "last", "age"}:
        return {
            "mean": mean,
            "min": min(values),
            "max": max(values),
            "last": values[-1],
            "age": (t - known[-1][0]).total_seconds() / 3600,
        }[statistic]
    if n == 1:
        return math.nan
    if statistic == "std":
        return math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    if statistic == "change":
        return values[-1] - values[0]
    assert statistic == "slope"
    centre = sum(times) / n
    spread = sum((time - centre) ** 2 for time in times)
    if max(times) == min(times):
        return math.nan
    return sum((time - centre) * (value - mean) for time, value in zip(times, values, strict=True)) / spread
