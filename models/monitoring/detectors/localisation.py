"""Localisation: whether more patients than by chance show a fault at a gateway, at all gateways, or at single devices only."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import pandas as pd
from scipy import stats

from vigil.models.monitoring.detectors.finding import Finding
from vigil.models.monitoring.report_schema import Scope

ALPHA: Final = 1e-5  # for one gateway and signal; some tens of them are examined daily
LEAST_SHARE: Final = 0.3  # of a gateway's patients
LEAST_PATIENTS: Final = 2


@dataclass(frozen=True)
class Location:
    """A location that shows a fault.

    Attributes:
        scope, where: as in a finding.
        rows: index of the profiles that show the fault there.
        patients: how many patients those profiles belong to.
        examined: how many patients were examined there.
        readings: how many readings those profiles hold; None: they hold none.
    """

    scope: Scope
    where: tuple[str, ...]
    rows: "pd.Index[int]"
    patients: int
    examined: int
    readings: int | None = None

    def finding(self, fault: str, signal: str | None, since: pd.Timestamp, evidence: str) -> Finding:
        """Return the finding of a fault at this location."""
        return Finding(fault, signal, self.scope, self.where, since, self.patients, self.examined, evidence, self.readings)


def locate(profiles: pd.DataFrame, hit: "pd.Series[bool]", usual: float, *, devices: bool) -> Iterator[Location]:
    """Yield the locations where a fault is more frequent than by chance.

    If all of several gateways show it, the location is the ward. A patient counts once, also where the profiles are of several
    signals.

    Args:
        profiles: ``subject_id, device_id, source`` of each profile.
        hit: which of them show the fault.
        usual: share of patients who show it on any day without the fault.
        devices: whether to yield single devices too, behind gateways that do not show the fault.
    """
    if not hit.any():
        return
    gateways = []
    for gateway, rows in profiles.groupby("source", observed=True):
        patients = rows["subject_id"].nunique()
        shows = rows[hit[rows.index]]
        count = shows["subject_id"].nunique()
        chance = stats.binom.sf(count - 1, patients, max(usual, 1e-4))
        if count >= LEAST_PATIENTS and count >= LEAST_SHARE * patients and chance < ALPHA:
            gateways.append(Location("gateway", (str(gateway),), shows.index, count, patients, _count_readings(shows)))
    if len(gateways) > 1 and len(gateways) == profiles["source"].nunique():
        shows = profiles[hit]
        patients, examined = shows["subject_id"].nunique(), profiles["subject_id"].nunique()
        yield Location("ward", (), shows.index, patients, examined, _count_readings(shows))
        return
    yield from gateways
    if devices:
        detected = {location.where[0] for location in gateways}
        alone = profiles[hit & ~profiles["source"].astype(str).isin(detected)]
        for device, rows in alone.groupby("device_id", observed=True):
            patients = rows["subject_id"].nunique()  # more than one where devices have no names
            yield Location("device", (str(device),), rows.index, patients, patients, _count_readings(rows))


def _count_readings(profiles: pd.DataFrame) -> int | None:
    return int(profiles["came"].sum()) if "came" in profiles else None
