"""Settings of a FHIR cohort: ``fhir.toml`` in its folder, or ``--mapping FILE``. Every field may be left out.

::

    name = "ward-b4"
    task = "deterioration"
    deidentified = true
    base_urls = ["https://ehr.example/fhir"]
    patient_system = "urn:oid:1.2.276.0.76"
    classes = ["IMP", "ACUTE", "NONAC", "OBSENC"]
    codes = { "urn:ward-b4|HF" = "heart_rate" }

    [default]
    units = { glucose = "mmol/L" }

    [outcomes]
    death = true
    conditions = ["http://snomed.info/sct|410429000", "http://hl7.org/fhir/sid/icd-10|I46*"]
    wards = ["ICU"]
"""

import hashlib
import tomllib
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from vigil.features.declarations import Declarations
from vigil.models.own_tasks import TaskSettings
from vigil.models.tasks import TASKS, RiskTask
from vigil.pipelines.sources import SourceError
from vigil.pipelines.sources.table.mapping import Task
from vigil.serving.fhir.encounters import STAY_CLASSES
from vigil.serving.records.source_settings import SignalName, SourceSettings

FILE: Final = "fhir.toml"
# As the mappings of published layouts ask (docs/cohorts.md): the only outcome that every record system knows.
DEATH: Final = TaskSettings(
    name="death_within_a_day",
    outcome="death",
    horizon_hours=24,
    feature_service="deterioration_v3",
    first_hours=4,
    age_from=18,
)


def _require_coding(text: str) -> str:
    system, bar, code = text.rpartition("|")
    if not (system and bar and code):
        raise ValueError(f"{text}: expected system|code, such as http://loinc.org|8867-4")
    return text


Coding = Annotated[str, AfterValidator(_require_coding)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OutcomeSettings(_Part):
    """What counts as the outcome; the first of all that happen in a stay.

    Attributes:
        death: whether death does: ``Patient.deceased``, or a discharge as expired.
        conditions: Conditions with one of these codes, as ``system|code``; ``*`` at its end stands for anything.
        wards: being moved to one of these locations, by name, such as intensive care.
    """

    death: bool = True
    conditions: list[Coding] = []
    wards: list[str] = []


class FhirSettings(_Part):
    """The settings.

    Attributes:
        name: of the cohort, as reports show it.
        task: the question: the name of a built-in one, or a table (:class:`vigil.models.own_tasks.TaskSettings`).
        deidentified: whether its publisher de-identified the patients.
        shifted_dates: whether times may lie in any year.
        base_urls: of the server that wrote the export, if references are absolute.
        patient_system: system of the identifiers by which patients are known; default: the id of the Patient.
        classes: of encounters that are stays (https://terminology.hl7.org/ValueSet-v3-ActEncounterCode.html).
        codes: signals of codes that the hospital uses beside the standard ones, by ``system|code``.
        default: what the readings leave out, such as units (``sources.toml``).
        outcomes: what counts as the outcome.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")] = "fhir"
    task: Task = DEATH
    deidentified: bool = False
    shifted_dates: bool = False
    base_urls: list[str] = []
    patient_system: str | None = None
    classes: list[str] = [*STAY_CLASSES]
    codes: dict[Coding, SignalName] = {}
    default: SourceSettings = SourceSettings()
    outcomes: OutcomeSettings = OutcomeSettings()

    def question(self) -> tuple[RiskTask, TaskSettings | None]:
        """Return the task, and the settings of one that is not built in."""
        return (TASKS[self.task], None) if isinstance(self.task, str) else (self.task.task(), self.task)

    def declarations(self) -> Declarations:
        """Return what the readings leave out."""
        return Declarations(self.default.declaration())

    @property
    def own_codes(self) -> dict[tuple[str, str], str]:
        """Signals by system and code."""
        return {(coding.rpartition("|")[0], coding.rpartition("|")[2]): signal for coding, signal in self.codes.items()}


def read_settings(folder: Path, path: Path | None = None) -> tuple[FhirSettings, str]:
    """Return the settings of a folder, and a digest of their text.

    Args:
        folder: of the data.
        path: of the settings; default: :data:`FILE` in the folder, if it is there.

    Raises:
        SourceError: they cannot be used; all that is wrong with them is named.
    """
    path = path or folder / FILE
    try:
        text = path.read_text(encoding="utf-8") if path != folder / FILE or path.exists() else ""
        settings = FhirSettings.model_validate(tomllib.loads(text))
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        expected = ", ".join(FhirSettings.model_fields)
        raise SourceError(f"{path}: {'; '.join(wrong)}; the top level has {expected}") from None
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({type(error).__name__}); expected TOML as in docs/fhir.md") from None
    except ValueError as error:  # TOML errors are ValueErrors
        raise SourceError(f"{path}: {error}; expected TOML") from None
    return settings, hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
