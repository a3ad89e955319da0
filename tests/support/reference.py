"""A slow and simple implementation of every window statistic, with which tests compare the kernel."""

import math

import numpy as np
import pandas as pd

from vigil.features.windows import WindowFeature

Observation = tuple[pd.Timestamp, pd.Timestamp, float]  # observed_at, recorded_at, value
HOUR = pd.Timedelta(hours=1)


def window_statistic(observations: list[Observation], t: pd.Timestamp, feature: WindowFeature) -> float:  # noqa: C901 - a case each
    """Compute one feature from one patient's observations of its signal, in plain Python."""
    known = [observation for observation in observations if observation[0] <= t and observation[1] <= t]
    known = sorted(known, key=lambda observation: observation[:2])  # of those recorded together, the order given
    if isinstance(feature.window, int):
        known = [observation for observation in known if observation[0] > t - feature.window * HOUR]
    if feature.window == "first_day":
        known = [observation for observation in known if observation[0] < known[0][0] + 24 * HOUR]
    observed = [at for at, _, _ in known]
    values = [value for _, _, value in known]
    n = len(values)
    minimum = {"count": 0, "std": 2, "slope": 2, "change": 2, "step": 2, "diff_std": 3}.get(feature.statistic, 1)
    if n < minimum:
        return math.nan
    match feature.statistic:
        case "count":
            return n
        case "mean" | "min" | "max":
            return {"mean": np.mean, "min": np.min, "max": np.max}[feature.statistic](values)
        case "sustained" | "recent":
            recent = sum(at > t - 1.5 * HOUR for at in observed)
            level_values = [value for value, at in zip(values, observed, strict=True) if at > observed[-1] - 0.25 * HOUR]
            level = float(np.median(level_values)) if recent and len(level_values) >= 5 else values[-1]
            return level if feature.statistic == "sustained" else recent
        case "std":
            return float(np.std(values, ddof=1))
        case "last":
            return values[-1]
        case "age":
            return (t - observed[-1]) / HOUR
        case "change":
            return values[-1] - values[0]
        case "step":
            return values[-1] - values[-2]
        case "median":
            return float(np.median(values))
        case "iqr":
            return float(np.quantile(values, 0.75) - np.quantile(values, 0.25))
        case "diff_std":
            return float(np.std(np.diff(values), ddof=1))
        case "slope":
            hours = [math.floor(at.timestamp()) / 3600 for at in observed]  # to the second
            if max(hours) == min(hours):
                return math.nan
            return float(np.polyfit(np.array(hours) - hours[0], values, 1)[0])
        case "ema":
            half_life = feature.window / 6
            weights = [0.5 ** ((observed[-1] - at) / HOUR / half_life) for at in observed]
            return float(np.average(values, weights=weights))
        case "hours_above" | "hours_below":
            total = 0.0
            for value, at, until in zip(values, observed, [*observed[1:], t], strict=True):
                is_beyond = value > feature.threshold if feature.statistic == "hours_above" else value < feature.threshold
                total += min((until - at) / HOUR, 1) if is_beyond else 0
            return total
    raise AssertionError(feature.statistic)
