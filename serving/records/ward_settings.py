"""What each ward asks of its alarms: ``HOME/wards.toml``, written by the people who run the ward, read again when it changes.

::

    [default]
    alarms_per_patient_day = 0.5

    [wards.B4]
    alarms_per_patient_day = 0.3
    threshold = 0.12
"""

import math
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StringConstraints

from vigil.features.errors import VigilError
from vigil.models.alarms.policy import Policy
from vigil.models.alarms.safety_net import ALARM_FROM
from vigil.models.alarms.timeline import REFRACTORY_PERIOD
from vigil.serving.records.settings_file import SettingsFile

if TYPE_CHECKING:
    from vigil.models.registry import RegisteredModel

FILE: Final = "wards.toml"


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

    def policy(self, registered: "RegisteredModel | None") -> Policy:
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
    """The ward settings of one home (:class:`vigil.serving.records.settings_file.SettingsFile`)."""

    def __init__(self, home: Path, *, strict: bool = False) -> None:
        """Read the file, if there is one.

        Args:
            home: where the file is.
            strict: refuse a file that cannot be used.

        Raises:
            WardSettingsError: it cannot be used; only if strict.
        """
        expected = f"[default] and [wards.NAME] with some of {', '.join(WardSettings.model_fields)}"
        self._file = SettingsFile(home / FILE, _File, WardSettingsError, expected, strict=strict)

    def settings(self, ward: str) -> WardSettings:
        """Return the settings of a ward, or the default ones."""
        return self._file.content.wards.get(ward, self._file.content.default)

    def has_section(self, ward: str) -> bool:
        """Return whether the file has a section for a ward."""
        return ward in self._file.content.wards

    @property
    def has_thresholds(self) -> bool:
        """Whether a ward has a threshold of its own, which refers to the probabilities of the present model."""
        content = self._file.content
        return any(ward.threshold is not None for ward in (content.default, *content.wards.values()))

    def refresh(self) -> None:
        """Read the file again, if it has changed. One that cannot be used is logged, and changes nothing."""
        self._file.refresh()
