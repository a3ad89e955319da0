"""Findings: a fault, its signal, its location, since when, and the evidence for it."""

from dataclasses import dataclass
from typing import Final

import pandas as pd

from vigil.models.monitoring.faults import FAULTS
from vigil.models.monitoring.report_schema import FindingRecord, Scope

# A finding that rests on fewer readings is a question to staff, and no fault: nothing follows from it. Ours: a patient in
# shock, or a typing error, makes one or two strange readings; a device or a gateway at fault makes all of them.
LEAST_READINGS: Final = 6


@dataclass(frozen=True)
class Finding:
    """A detected fault, or a question whether there is one.

    Attributes:
        fault: a key of :data:`vigil.models.monitoring.faults.FAULTS`.
        signal: the signal it hits; None: all, or none in particular.
        scope: what ``where`` names.
        where: a gateway, a device, two swapped devices, or empty for the ward.
        since: when it first shows.
        affected, examined: how many patients show it, of how many that were examined.
        evidence: what was measured, and what is usual; never a patient's value.
        readings: how many readings of these patients it rests on; None: it does not rest on single readings.
    """

    fault: str
    signal: str | None
    scope: Scope
    where: tuple[str, ...]
    since: pd.Timestamp
    affected: int
    examined: int
    evidence: str
    readings: int | None = None

    @property
    def is_question(self) -> bool:
        """Whether there are too few readings to call it a fault."""
        return self.readings is not None and self.readings < LEAST_READINGS

    def sentence(self) -> str:
        """Return what happened, where and since when, for people.

        >>> since = pd.Timestamp("2026-03-02T05:20Z")
        >>> Finding("noise", "heart_rate", "gateway", ("gateway-1",), since, 9, 12, "steps are 2.1 times the usual").sentence()
        'heart rate at gateway-1 is noisier than before, since 2026-03-02 05:20 UTC: steps are 2.1 times the usual'
        """
        location = " and ".join(name or f"a {self.scope} without a name" for name in self.where) or "the whole ward"
        signal = (self.signal or "").replace("_", " ")
        subject = f"{signal} {'at' if self.where else 'in'} {location}" if signal else f"{location}:"
        says = f"{subject} {FAULTS[self.fault].says}, since {self.since:%Y-%m-%d %H:%M} UTC: {self.evidence}"
        return f"{says}; a question, not a fault: it rests on {self.readings} readings" if self.is_question else says

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
            readings=self.readings,
            question=self.is_question,
            evidence=self.evidence,
            says=self.sentence(),
            remedy=FAULTS[self.fault].remedy,
        )
