"""Supplemental oxygen, inferred from the inspired fraction: one rule for every source."""

import pandas as pd

from features.scores import ROOM_AIR
from features.signals import SIGNALS


def infer_oxygen(fio2: "pd.Series[float]") -> "pd.Series[float]":
    """Return 1 where the FiO2 (%) is above room air, 0 where it is not, and NaN where it is missing or implausible.

    A FiO2 of 0 or 3 % is an artefact. It must not become "breathes room air".

    Example:
        >>> infer_oxygen(pd.Series([21.0, 40.0, 3.0])).tolist()
        [0.0, 1.0, nan]
    """
    plausible = fio2.between(SIGNALS["fio2"].low, SIGNALS["fio2"].high)  # False for NaN
    return (fio2 > ROOM_AIR).astype(float).where(plausible)
