"""What a source of readings declares once: units, time zone, measuring ranges, and which values are error codes.

A source is a gateway of the API, or a cohort. Nothing is guessed of a source that declares nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from vigil.features.signals import STORED


@dataclass(frozen=True, slots=True)
class SourceDeclaration:
    """The declaration of one source.

    Attributes:
        units: Unit of the values that arrive without one, by signal (:mod:`vigil.features.units`).
        ranges: Lowest and highest value that the devices measure, by signal, in the declared unit or else the signal's own:
            what ``Low`` and ``High`` stand for (:mod:`vigil.features.bounds`).
        error_codes: Values that say what is wrong with the device, by signal; such as 9, 10 and 12 of a glucose sensor.
        time_zone: That of its times without one. None: such times are not believed.
        carry_hours: How long a score at the bedside may use its values, by signal, where that is shorter than
            :attr:`vigil.features.signal.Signal.carry_hours`; such as 2 h for a wristband.
        time_format: How its times are written (:meth:`datetime.datetime.strptime`). None: ISO 8601.
        decimal_comma: Whether texts of its values have a comma before the decimals.
        counts_reception: Whether a reading counts as of when the gateway received it, since the clocks of its devices are not
            to be believed.
        stopped_after_minutes: How long after the last observation the next one is overdue at the latest, by signal
            (:mod:`vigil.features.rhythm`).
    """

    units: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    error_codes: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    time_zone: ZoneInfo | None = None
    carry_hours: Mapping[str, float] = field(default_factory=dict)
    time_format: str | None = None
    decimal_comma: bool = False
    counts_reception: bool = False
    stopped_after_minutes: Mapping[str, float] = field(default_factory=dict)

    def read_time(self, text: str) -> datetime | None:
        """Return the time that a text says; None: it is not written as declared. 5 March must not become 3 May.

        A date alone is no time: it must not become midnight.

        >>> SourceDeclaration(time_format="%d.%m.%Y %H:%M").read_time("05.03.2026 08:00")
        datetime.datetime(2026, 3, 5, 8, 0)
        >>> SourceDeclaration().read_time("05.03.2026 08:00"), SourceDeclaration().read_time("2026-03-05")
        (None, None)
        """
        try:
            if self.time_format is not None:
                return datetime.strptime(text, self.time_format)  # noqa: DTZ007 - the zone is that of the source
            return None if len(text) <= len("2026-03-05") else datetime.fromisoformat(text)
        except ValueError:
            return None

    def read_decimals(self, text: str) -> str:
        """Return the text of a number with a point before the decimals. Where the comma is declared, a point is not understood.

        >>> comma = SourceDeclaration(decimal_comma=True)
        >>> comma.read_decimals("36,6"), comma.read_decimals("1.234"), SourceDeclaration().read_decimals("36,6")
        ('36.6', '', '36,6')
        """
        if not self.decimal_comma:
            return text
        return "" if "." in text else text.replace(",", ".", 1)

    def localise(self, time: datetime) -> datetime | None:
        """Return the instant of a local time, which has no zone of its own.

        None: the source declares no zone, or the clocks were changed, so that there is no such time, or there are two.

        >>> berlin = SourceDeclaration(time_zone=ZoneInfo("Europe/Berlin"))
        >>> [berlin.localise(datetime(2026, 3, day, 2, 30)) for day in (28, 29)]
        [datetime.datetime(2026, 3, 28, 2, 30, tzinfo=zoneinfo.ZoneInfo(key='Europe/Berlin')), None]
        """
        if self.time_zone is None:
            return None
        first, second = (time.replace(tzinfo=self.time_zone, fold=fold) for fold in (0, 1))
        return first if first.utcoffset() == second.utcoffset() else None


@dataclass(frozen=True, slots=True)
class Declarations:
    """The declarations of all sources.

    Attributes:
        default: That of sources that have none of their own.
        sources: Declarations by name of the source.
    """

    default: SourceDeclaration = SourceDeclaration()
    sources: Mapping[str, SourceDeclaration] = field(default_factory=dict)

    def of(self, source: object) -> SourceDeclaration:
        """Return the declaration of a source, which may be missing."""
        return self.sources.get(source, self.default) if isinstance(source, str) else self.default

    def any(self, field_name: str) -> bool:
        """Return whether any source declares a field."""
        return any(getattr(source, field_name) for source in (self.default, *self.sources.values()))


UNDECLARED: Final = Declarations()
# For observations that were converted already, such as those of a cohort whose publisher states the units.
OWN_UNITS: Final = Declarations(SourceDeclaration(units={name: signal.unit for name, signal in STORED.items()}))
