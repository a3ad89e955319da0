"""What each ward asks of its alarms: ``HOME/wards.toml``, written by the people who run the ward, read again when it changes.

::

    [default]
    alarms_per_patient_day = 0.5

    [wards.B4]
    alarms_per_patient_day = 0.3
    threshold = 0.12
"""

import errno
import logging
import math
import os
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from features.errors import VigilError
from models.alarms.policy import Policy
from models.alarms.safety_net import ALARM_FROM
from models.alarms.timeline import REFRACTORY_PERIOD
from models.registry import RegisteredModel

logger = logging.getLogger("vigil.serving")

FILE: Final = "wards.toml"
LAST_GOOD: Final = "wards.last_good.toml"  # our copy, in force while the file cannot be used


class WardSettingsError(VigilError):
    """The settings of the wards cannot be used."""


class SafetyNetSettings(BaseModel):
    """A ward's own limit of the safety net, in writing.

    Attributes:
        alarm_from: NEWS2 at or above which an alarm sounds, in place of 7; with 21, which no score reaches, none does.
        because: the reason, shown in the ward's list. It names no patient.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    alarm_from: Annotated[int, Field(strict=True, ge=5, le=21)]
    because: Annotated[str, StringConstraints(strip_whitespace=True, min_length=10, max_length=500)]


class WardSettings(BaseModel):
    """The settings of one ward.

    Attributes:
        alarms_per_patient_day: its budget; alarms of the model beyond it are withheld.
        threshold: probability at which a risk is an alarm; None: the model's own.
        refractory_hours: the pause after an alarm of a patient, before the next. ``silence_hours``, its former name, is read
        too. safety_net: a limit other than NEWS2 of 7, with its reason; None: 7.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=True)

    alarms_per_patient_day: Annotated[float, Field(gt=0, le=100)] | None = None
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    refractory_hours: Annotated[
        float, Field(ge=0.25, le=48, validation_alias=AliasChoices("refractory_hours", "silence_hours"))
    ] = REFRACTORY_PERIOD / timedelta(hours=1)
    safety_net: SafetyNetSettings | None = None

    def allowed_alarms(self, patients: int, default_rate: float) -> int:
        """Return how many alarms may sound within a day among some patients; at least one.

        ``default_rate``: alarms per patient-day where the ward has no budget of its own.
        """
        rate = self.alarms_per_patient_day or default_rate
        return max(1, math.floor(rate * patients))

    def policy(self, registered: RegisteredModel | None) -> Policy:
        """Return when an alarm sounds here: by the model, if there is one, and by NEWS2 in any case."""
        return Policy(
            threshold=None if registered is None else self.threshold or registered.model.thresholds_["high"],
            refractory_period=timedelta(hours=self.refractory_hours),
            news2_from=ALARM_FROM if self.safety_net is None else self.safety_net.alarm_from,
        )


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    default: WardSettings = WardSettings()
    wards: dict[str, WardSettings] = {}


class WardSettingsFile:
    """The ward settings of one home. A file that becomes unusable is logged and changes nothing.

    The same holds at a start, by a copy of the last usable file that is stored beside it.
    """

    def __init__(self, home: Path, *, strict: bool = False) -> None:
        """Read the file, if there is one. A slip in it does not stop a server: the last usable copy stays in force.

        Args:
            home: where the file is.
            strict: refuse a file that cannot be used.

        Raises:
            WardSettingsError: it cannot be used; only if strict.
        """
        self._path, self._last_good = home / FILE, home / LAST_GOOD
        self._version: object = None
        self._file = _File()
        if strict:
            self._read()
        else:
            self._start()

    def settings(self, ward: str) -> WardSettings:
        """Return the settings of a ward, or the default ones."""
        return self._file.wards.get(ward, self._file.default)

    def has_section(self, ward: str) -> bool:
        """Return whether the file has a section for a ward."""
        return ward in self._file.wards

    @property
    def has_thresholds(self) -> bool:
        """Whether a ward has a threshold of its own, which refers to the probabilities of the present model."""
        return any(ward.threshold is not None for ward in (self._file.default, *self._file.wards.values()))

    def refresh(self) -> None:
        """Read the file again, if it has changed."""
        try:
            self._read()
        except WardSettingsError as error:
            logger.error("%s; the previous settings stay in force", error)  # noqa: TRY400 - the message says it all

    def _start(self) -> None:
        """Read the file; if it cannot be used, the copy of the last usable one, or nothing."""
        try:
            self._read()
        except WardSettingsError as error:
            try:
                self._file = _parse(self._last_good, self._last_good.read_text())
                logger.error("%s; %s stays in force", error, self._last_good.name)  # noqa: TRY400
            except (WardSettingsError, OSError):
                logger.error("%s; defaults are in force for every ward", error)  # noqa: TRY400

    def _read(self) -> None:
        version = _version(self._path)
        if version == self._version:
            return
        self._version = version  # also of an unusable one: it is reported only when it changes
        try:
            text = "" if version is None else _text(self._path)
        except (OSError, ValueError) as error:  # such as a link to itself, or bytes that are no text
            raise WardSettingsError(f"{self._path}: cannot be read ({type(error).__name__}); expected TOML") from None
        self._file = _parse(self._path, text)
        self._copy(text)

    def _copy(self, text: str) -> None:
        """Store a usable file for the next start."""
        try:
            if text and (not self._last_good.exists() or self._last_good.read_text() != text):
                unfinished = self._last_good.with_suffix(f".{os.getpid()}")
                unfinished.write_text(text)
                unfinished.replace(self._last_good)
        except OSError as error:
            logger.warning("%s: cannot be written (%s)", self._last_good.name, type(error).__name__)


def _version(path: Path) -> object:
    """Return what changes when a file does, as far as its directory entry tells; None: there is no file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.errno
    return status.st_mtime_ns, status.st_ino, status.st_size


def _text(path: Path) -> str:
    if not path.is_file():  # reading a pipe would wait
        raise OSError(errno.EINVAL, "not a file")
    return path.read_text()


def _parse(path: Path, text: str) -> _File:
    try:
        return _File.model_validate(tomllib.loads(text))
    except ValidationError as error:
        first = error.errors()[0]
        raise WardSettingsError(
            f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}; expected [default] and [wards.NAME] with some of "
            f"{', '.join(WardSettings.model_fields)}"
        ) from None
    except (ValueError, RecursionError) as error:  # TOML errors are ValueErrors
        raise WardSettingsError(f"{path}: cannot be read ({type(error).__name__}); expected TOML") from None
