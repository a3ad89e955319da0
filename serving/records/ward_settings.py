"""What each ward asks of its alarms: ``HOME/wards.toml``, written by those who run the ward, read again whenever it changes.

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

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from features.errors import VigilError
from models.alarms.policy import Policy
from models.alarms.safety_net import ALARM_FROM
from models.alarms.timeline import SILENCE
from models.registry import RegisteredModel

logger = logging.getLogger("vigil.serving")

FILE: Final = "wards.toml"
LAST_GOOD: Final = "wards.last_good.toml"  # ours: what holds where somebody has made a slip


class WardsError(VigilError):
    """The file cannot be used."""


class SafetyNet(BaseModel):
    """A ward's own limit of the safety net, in writing.

    Attributes:
        alarm_from: NEWS2 at or above which an alarm sounds, in place of 7; 21, which no score reaches: none does.
        because: the reason, which is shown with the ward's list. It names no patient.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    alarm_from: Annotated[int, Field(strict=True, ge=5, le=21)]
    because: Annotated[str, StringConstraints(strip_whitespace=True, min_length=10, max_length=500)]


class Ward(BaseModel):
    """What one ward asks.

    Attributes:
        alarms_per_patient_day: its budget; alarms of the model beyond it are withheld.
        threshold: probability from which a risk is an alarm; None: the model's own.
        silence_hours: the refractory period: after an alarm of a patient, before the next.
        safety_net: a limit other than NEWS2 of 7, with its reason; None: 7.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    alarms_per_patient_day: Annotated[float, Field(gt=0, le=100)] | None = None
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    silence_hours: Annotated[float, Field(ge=0.25, le=48)] = SILENCE / timedelta(hours=1)
    safety_net: SafetyNet | None = None

    def allowed(self, patients: int, promised: float) -> int:
        """Alarms that may sound within a day among so many patients; at least one."""
        rate = self.alarms_per_patient_day or promised
        return max(1, math.floor(rate * patients))

    def policy(self, registered: RegisteredModel | None) -> Policy:
        """Return when an alarm sounds here: by the model, if there is one, and by NEWS2 in any case."""
        return Policy(
            threshold=None if registered is None else self.threshold or registered.model.thresholds_["high"],
            silence=timedelta(hours=self.silence_hours),
            news2_from=ALARM_FROM if self.safety_net is None else self.safety_net.alarm_from,
        )


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    default: Ward = Ward()
    wards: dict[str, Ward] = {}


class Wards:
    """Those of one home. A file that became unusable changes nothing: it is said in the log, and what held before holds.

    So it is at a start, too, by the copy of the last good one that is kept beside it.
    """

    def __init__(self, home: Path, *, strict: bool = False) -> None:
        """Read the file, if there is one. A slip in it does not stop a server: the last good one holds, as the log says.

        Args:
            home: where the file is.
            strict: refuse a file that cannot be used.

        Raises:
            WardsError: it cannot be used; only if strict.
        """
        self._path, self._last_good = home / FILE, home / LAST_GOOD
        self._version: object = None
        self._file = _File()
        if strict:
            self._read()
        else:
            self._begin()

    def of(self, ward: str) -> Ward:
        """What a ward asks."""
        return self._file.wards.get(ward, self._file.default)

    def names(self, ward: str) -> bool:
        """Whether the file says something of a ward."""
        return ward in self._file.wards

    @property
    def have_thresholds(self) -> bool:
        """Whether a ward has one of its own, which is of the probabilities of the model as it was."""
        return any(ward.threshold is not None for ward in (self._file.default, *self._file.wards.values()))

    def refresh(self) -> None:
        """Read the file again, if it has changed."""
        try:
            self._read()
        except WardsError as error:
            logger.error("%s; what held before holds", error)  # noqa: TRY400 - the message says it all

    def _begin(self) -> None:
        """Read the file, or where it cannot be used the copy of the last good one, or nothing."""
        try:
            self._read()
        except WardsError as error:
            try:
                self._file = _parsed(self._last_good, self._last_good.read_text())
                logger.error("%s; %s holds, the last good one", error, self._last_good.name)  # noqa: TRY400
            except (WardsError, OSError):
                logger.error("%s; defaults hold for every ward", error)  # noqa: TRY400

    def _read(self) -> None:
        version = _version(self._path)
        if version == self._version:
            return
        self._version = version  # also of a bad one: it is complained of once
        try:
            text = "" if version is None else _text(self._path)
        except (OSError, ValueError) as error:  # such as a link to itself, or bytes that are no text
            raise WardsError(f"{self._path}: cannot be read ({type(error).__name__}); expected TOML") from None
        self._file = _parsed(self._path, text)
        self._keep(text)

    def _keep(self, text: str) -> None:
        """Keep a good file for the next start."""
        try:
            if text and (not self._last_good.exists() or self._last_good.read_text() != text):
                unfinished = self._last_good.with_suffix(f".{os.getpid()}")
                unfinished.write_text(text)
                unfinished.replace(self._last_good)
        except OSError as error:
            logger.warning("%s: cannot be written (%s)", self._last_good.name, type(error).__name__)


def _version(path: Path) -> object:
    """Of a file, as far as its entry in the folder tells: changes when the file does. None: there is none."""
    try:
        about = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        return error.errno
    return about.st_mtime_ns, about.st_ino, about.st_size


def _text(path: Path) -> str:
    if not path.is_file():  # a pipe would be waited for
        raise OSError(errno.EINVAL, "not a file")
    return path.read_text()


def _parsed(path: Path, text: str) -> _File:
    try:
        return _File.model_validate(tomllib.loads(text))
    except ValidationError as error:
        first = error.errors()[0]
        raise WardsError(
            f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}; expected [default] and [wards.NAME] with some of "
            f"{', '.join(Ward.model_fields)}"
        ) from None
    except (ValueError, RecursionError) as error:  # TOML errors are ValueErrors
        raise WardsError(f"{path}: cannot be read ({type(error).__name__}); expected TOML") from None
