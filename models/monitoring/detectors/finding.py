"""Findings: a fault, its signal, its location, since when, and the evidence for it."""

from dataclasses import dataclass

import pandas as pd

from models.monitoring.faults import FAULTS
from models.monitoring.report_schema import FindingRecord, Scope


@dataclass(frozen=True)
class Finding:
    """A detected fault.

    Attributes:
        fault: a key of :data:`models.monitoring.faults.FAULTS`.
        signal: the signal it hits; None: all, or none in particular.
        scope: what ``where`` names.
        where: a gateway, a device, two swapped devices, or empty for the ward.
        since: when it first shows.
        affected, examined: how many patients show it, of how many that were examined.
        evidence: what was measured, and what is usual; never a patient's value.
    """

    fault: str
    signal: str | None
    scope: Scope
    where: tuple[str, ...]
    since: pd.Timestamp
    affected: int
    examined: int
    evidence: str

    def sentence(self) -> str:
        """Return what happened, where and since when, for people.

        >>> since = pd.Timestamp("2026-03-02T05:20Z")
        >>> Finding("noise", "heart_rate", "gateway", ("gateway-1",), since, 9, 12, "steps are 2.1 times the usual").sentence()
        'heart rate at gateway-1 is noisier than before, since 2026-03-02 05:20 UTC: steps are 2.1 times the usual'
        """
        location = " and ".join(self.where) or "the whole ward"
        signal = (self.signal or "").replace("_", " ")
        subject = f"{signal} {'at' if self.where else 'in'} {location}" if signal else f"{location}:"
        return f"{subject} {FAULTS[self.fault].says}, since {self.since:%Y-%m-%d %H:%M} UTC: {self.evidence}"

    def record(self) -> FindingRecord:
        """Return the finding as ``drift.json`` holds it."""
        return FindingRecord(
            fault=self.fault,
            signal=self.signal,
            place=self.scope,
            where=list(self.where),
            since=self.since.isoformat(),
            hit=self.affected,
            of=self.examined,
            evidence=self.evidence,
            says=self.sentence(),
            remedy=FAULTS[self.fault].remedy,
        )
