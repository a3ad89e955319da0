"""Where a fault is: hits among patients are more than chance at a gateway, at all of them, or at single devices only."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pandas as pd
from scipy import stats

from models.monitoring.detectors.finding import Place

ALPHA: Final = 1e-5  # for one gateway and signal; there are some tens of them, looked at daily
LEAST_SHARE: Final = 0.3  # of a gateway's patients
LEAST_PATIENTS: Final = 2


@dataclass(frozen=True)
class Cell:
    """A place where a fault is.

    Attributes:
        place, where: as of a finding.
        rows: index of the series that are hit there.
        patients: whose they are.
        of: how many were looked at.
    """

    place: Place
    where: tuple[str, ...]
    rows: "pd.Index[int]"
    patients: int
    of: int


def places(found: pd.DataFrame, hit: "pd.Series[bool]", usual: float, *, devices: bool) -> Iterator[Cell]:
    """Where the series of one signal (or of several, a patient then counts once) are hit more often than chance has it.

    Args:
        found: series of patients; ``subject_id, device_id, source``.
        hit: which of them show the fault.
        usual: share of patients who show it on any day without it.
        devices: single devices are worth naming, where no gateway is.
    """
    if not hit.any():
        return
    gateways = []
    for gateway, rows in found.groupby("source", observed=True):
        patients = rows["subject_id"].nunique()
        shows = rows[hit[rows.index]]
        count = shows["subject_id"].nunique()
        chance = stats.binom.sf(count - 1, patients, max(usual, 1e-4))
        if count >= LEAST_PATIENTS and count >= LEAST_SHARE * patients and chance < ALPHA:
            gateways.append(Cell("gateway", (str(gateway),), shows.index, count, patients))
    if len(gateways) > 1 and len(gateways) == found["source"].nunique():
        every = found[hit]
        yield Cell("ward", (), every.index, every["subject_id"].nunique(), found["subject_id"].nunique())
        return
    yield from gateways
    if devices:
        named = {cell.where[0] for cell in gateways}
        alone = found[hit & ~found["source"].astype(str).isin(named)]
        for device, rows in alone.groupby("device_id", observed=True):
            yield Cell("device", (str(device),), rows.index, 1, 1)
