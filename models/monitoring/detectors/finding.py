"""What was found: which fault, of which signal, where, since when, and what speaks for it."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import pandas as pd

from models.monitoring.faults import FAULTS

Place = Literal["ward", "gateway", "device"]


@dataclass(frozen=True)
class Finding:
    """A named fault.

    Attributes:
        fault: a key of :data:`models.monitoring.faults.FAULTS`.
        signal: that is hit; None: all, or none in particular.
        place: what ``where`` names.
        where: gateway or device, two devices that were exchanged, or nothing: the ward.
        since: when it shows first.
        hit, of: patients whose data show it, and those who were looked at.
        evidence: what was measured, and what is usual; no patient's value.
    """

    fault: str
    signal: str | None
    place: Place
    where: tuple[str, ...]
    since: pd.Timestamp
    hit: int
    of: int
    evidence: str

    def sentence(self) -> str:
        """For people: what, where, since when."""
        place = " and ".join(self.where) or "the whole ward"
        signal = (self.signal or "").replace("_", " ")
        subject = f"{signal} {'at' if self.where else 'in'} {place}" if signal else f"{place}:"
        return f"{subject} {FAULTS[self.fault].says}, since {self.since:%Y-%m-%d %H:%M} UTC: {self.evidence}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            **asdict(self), "where": list(self.where), "since": self.since.isoformat(),
            "says": self.sentence(), "remedy": FAULTS[self.fault].remedy,
        }  # fmt: skip
