"""Whether supplemental oxygen is given, read from the inspired fraction: one rule for every source."""

import pandas as pd

from features.scores import ROOM_AIR
from features.signals import SIGNALS


def on_oxygen(fio2: "pd.Series[float]") -> "pd.Series[float]":
    """1 where the FiO2 (%) is above room air, 0 where it is not; NaN where it is missing or implausible.

    A FiO2 of 0 or 3 % is an artefact; it must not become "breathes room air".
    """
    plausible = fio2.between(SIGNALS["fio2"].low, SIGNALS["fio2"].high)  # comparisons with NaN are false
    return (fio2 > ROOM_AIR).astype(float).where(plausible)
