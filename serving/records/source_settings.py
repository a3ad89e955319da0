"""What each source of readings declares: ``HOME/sources.toml``, written by those who connect it, read again when it changes.

::

    [default]
    time_zone = "Europe/Berlin"

    [sources.gateway-4]
    units = { glucose = "mmol/L" }
    ranges = { glucose = [2.2, 22.2] }
    error_codes = { glucose = [9, 10, 12] }

    [sources.wristbands]
    carry_hours = { heart_rate = 2, spo2 = 2 }
    stopped_after_minutes = { spo2 = 15 }
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from vigil.features.declarations import Declarations, SourceDeclaration
from vigil.features.derived import SCORE_CARRY_HOURS
from vigil.features.errors import VigilError
from vigil.features.signals import SIGNALS, bounded_signals
from vigil.features.units import find_conversion, understood_units
from vigil.serving.records.settings_file import SettingsFile

FILE: Final = "sources.toml"


class SourceSettingsError(VigilError):
    """The declarations of the sources cannot be used."""


def _require_signal(name: str) -> str:
    if name not in SIGNALS:
        raise ValueError(f"{name} is no signal; the signals are in docs/features.md")
    return name


def require_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name} is no time zone; expected a name such as Europe/Berlin") from None
    return name


Finite = Annotated[float, Field(allow_inf_nan=False)]


def _require_time_format(time_format: str) -> str:
    """Require a format that tells date and time to the minute, so that no part of a time is made up."""
    time = datetime(2026, 3, 5, 20, 47, tzinfo=UTC)
    try:
        is_whole = datetime.strptime(time.strftime(time_format), time_format).replace(tzinfo=UTC) == time
    except ValueError:
        is_whole = False
    if not is_whole:
        raise ValueError(f"{time_format} does not tell a date and a time of day; expected such as %d.%m.%Y %H:%M")
    return time_format


SignalName = Annotated[str, AfterValidator(_require_signal)]


class SourceSettings(BaseModel):
    """The declaration of one source.

    Attributes:
        units: unit of values that arrive without one, by signal; one of :func:`vigil.features.units.understood_units`.
        ranges: lowest and highest value that the devices measure, by signal: what Low and High stand for. In the declared unit,
            or else the signal's own.
        error_codes: values that say what is wrong with the device, by signal.
        time_zone: of times that arrive without one; None: such times are not believed.
        time_format: how its times are written, by the codes of Python's strptime; None: ISO 8601.
        decimal_comma: whether texts of its values, in files, have a comma before the decimals.
        clock: which one counts: that of the ``device``, in ``observed_at``, or of the ``gateway``, in ``received_at``.
        carry_hours: how long NEWS2 at the bedside may use a value, by signal, where that is shorter than
            usual; at least a quarter of an hour.
        stopped_after_minutes: how long after the last observation the next one is overdue at the latest, by signal; at least 2
            minutes, since wireless links have gaps, and a day at most.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    units: dict[SignalName, str] = {}
    ranges: dict[SignalName, tuple[Finite, Finite]] = {}
    error_codes: dict[SignalName, list[Finite]] = {}
    time_zone: Annotated[str, AfterValidator(require_zone)] | None = None
    time_format: Annotated[str, AfterValidator(_require_time_format)] | None = None
    decimal_comma: bool = False
    clock: Literal["device", "gateway"] = "device"
    carry_hours: dict[SignalName, Annotated[float, Field(ge=0.25, le=SCORE_CARRY_HOURS)]] = {}
    stopped_after_minutes: dict[SignalName, Annotated[float, Field(ge=2, le=SCORE_CARRY_HOURS * 60)]] = {}

    @field_validator("units")
    @classmethod
    def _require_units(cls, units: Mapping[str, str]) -> Mapping[str, str]:
        for signal, unit in units.items():
            if find_conversion(signal, unit) is None:
                raise ValueError(f"{unit} is no unit of {signal}; expected one of {', '.join(understood_units(signal))}")
        return units

    @model_validator(mode="after")
    def _require_ranges(self) -> Self:
        for signal, (lowest, highest) in self.ranges.items():
            if signal not in bounded_signals():
                raise ValueError(f"ranges: {signal} has no bounds; expected one of {', '.join(bounded_signals())}")
            unit, own = self.units.get(signal, SIGNALS[signal].unit), SIGNALS[signal]
            conversion = find_conversion(signal, unit)
            assert conversion is not None  # the unit was checked before
            limits = [conversion.convert(limit, own.steps_per_unit) for limit in (lowest, highest)]
            if not own.low <= limits[0] < limits[1] <= own.high:
                raise ValueError(
                    f"ranges: {signal} has another range; expected the lowest and the highest value that the device measures, "
                    f"in {unit}, within {own.low:g} to {own.high:g} {own.unit}"
                )
        return self

    def declaration(self) -> SourceDeclaration:
        """Return the declaration as the check of observations takes it."""
        return SourceDeclaration(
            units=self.units,
            ranges=self.ranges,
            error_codes={signal: tuple(codes) for signal, codes in self.error_codes.items()},
            time_zone=None if self.time_zone is None else ZoneInfo(self.time_zone),
            carry_hours=self.carry_hours,
            time_format=self.time_format,
            decimal_comma=self.decimal_comma,
            counts_reception=self.clock == "gateway",
            stopped_after_minutes=self.stopped_after_minutes,
        )


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    default: SourceSettings = SourceSettings()
    sources: dict[str, SourceSettings] = {}


class SourceSettingsFile:
    """The declarations of one home (:class:`vigil.serving.records.settings_file.SettingsFile`)."""

    def __init__(self, home: Path, *, strict: bool = False) -> None:
        """Read the file, if there is one.

        Args:
            home: where the file is.
            strict: refuse a file that cannot be used.

        Raises:
            SourceSettingsError: it cannot be used; only if strict.
        """
        expected = f"[default] and [sources.NAME] with some of {', '.join(SourceSettings.model_fields)}"
        self._file = SettingsFile(home / FILE, _File, SourceSettingsError, expected, strict=strict)

    def declarations(self) -> Declarations:
        """Return the declarations as they are now: the file is read again if it has changed."""
        self._file.refresh()
        content = self._file.content
        return Declarations(
            content.default.declaration(), {name: source.declaration() for name, source in content.sources.items()}
        )
