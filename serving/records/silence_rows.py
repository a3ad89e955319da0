"""What is known of signals that stopped and sources that fell silent, as values. Times are microseconds UTC."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

Cause = Literal["overdue", "disconnected"]
DeviceStatus = Literal["connected", "disconnected"]
SILENCE_KINDS: Final = ("signal_stopped", "signal_returned", "source_silent", "source_returned")  # of events
EVENT_FIELDS: Final = ("signal", "source", "device_id", "since", "cause")


@dataclass(frozen=True, slots=True)
class Silence:
    """A signal of a subject that stopped while others go on, or a source that fell silent, as told to one ward.

    Attributes:
        silence_id: its name.
        ward: whose followers were told.
        subject_id: None: it is of a whole source.
        signal: None, as the subject.
        source, device_id: who sent it last; None: not named, or the device of a whole source.
        since: when the last observation was recorded.
        overdue_after: for how long nothing may come before it is overdue.
        cause: its own rhythm or declaration, or a report that the device is disconnected.
        raised_at: when it was told.
        resolved_at: when it ended; None: it has not.
    """

    silence_id: str
    ward: str
    subject_id: str | None
    signal: str | None
    source: str | None
    device_id: str | None
    since: int
    overdue_after: int
    cause: Cause
    raised_at: int
    resolved_at: int | None = None

    @property
    def place(self) -> tuple[str | None, str | None, str]:
        """What may be silent once at a time: a signal of a subject; or a source, in a ward."""
        return (self.subject_id, self.signal, "") if self.subject_id else (None, self.source, self.ward)

    def event_fields(self) -> Mapping[str, Any]:
        """Return what followers of the ward see of it, beside subject, ward and time."""
        fields = asdict(self)
        names = EVENT_FIELDS if self.subject_id else ("source", "since", "cause")
        return {name: fields[name] for name in names}


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """The last report of whether a device, or a gateway with everything behind it, is connected.

    Attributes:
        source: name of the gateway.
        device_id: None: the gateway itself.
        wards: that the report may speak for; None: all.
        status: what was said.
        at: when it arrived.
    """

    source: str
    device_id: str | None
    wards: tuple[str, ...] | None
    status: DeviceStatus
    at: int

    def speaks_for(self, ward: str) -> bool:
        """Return whether the one who reported may see a ward."""
        return self.wards is None or ward in self.wards


@dataclass(frozen=True, slots=True)
class SilenceChanges:
    """What one look found.

    Attributes:
        raised: new silences.
        returned: silences that ended since signal or source came back; followers are told.
        ended: silences of subjects that left, and those that have lasted for a day; followers are told no more.
        settled: reports that have done what they can: a connection, or a disconnection that an observation has overtaken.
    """

    raised: tuple[Silence, ...] = ()
    returned: tuple[Silence, ...] = ()
    ended: tuple[Silence, ...] = ()
    settled: tuple[DeviceReport, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.raised or self.returned or self.ended or self.settled)
