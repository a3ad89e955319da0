"""The mapping of a cohort: a TOML file that says what each column of its tables is.

::

    name = "ward-b4"
    task = "deterioration"

    [default]                                   # how the files are written
    delimiter = ";"
    encoding = "cp1252"
    decimal_comma = true
    time_zone = "Europe/Berlin"
    time_format = "%d.%m.%Y %H:%M"
    units = { body_temperature = "[degF]" }

    [[observations]]                            # wide: a column a signal
    file = "vitals.csv"
    stay = "Fall"
    time = "Zeit"
    signals = { heart_rate = "HF", body_temperature = "Temp" }

    [[observations]]                            # long: a row a value
    file = "lab.csv"
    stay = "Fall"
    time = "Zeit"
    signal = "Parameter"
    value = "Wert"
    codes = { Krea = "creatinine" }

    [stays]
    file = "stays.csv"
    stay = "Fall"
    start = "Aufnahme"
    end = "Entlassung"
    age = "Alter"

    [outcomes]
    file = "stays.csv"
    stay = "Fall"
    onset = "Verlegung_ITS"
"""

import codecs
import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from vigil.features.codes import accepted_names
from vigil.features.declarations import Declarations
from vigil.models.own_tasks import TaskSettings
from vigil.models.tasks import TASKS
from vigil.pipelines.sources import AttributeName, SourceError
from vigil.serving.records.source_settings import SignalName, SourceSettings

Name = Annotated[str, Field(min_length=1)]
Texts = list[str]


def _require_encoding(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise ValueError(f"{name} is no encoding; expected a name such as utf-8 or cp1252") from None


def _require_task(name: str) -> str:
    if name not in TASKS and not name.endswith(ACES_SUFFIXES):
        raise ValueError(f"{name} is no task; expected one of {', '.join(TASKS)}, or a task file of ACES (.yaml)")
    return name


# The name of a task or of a task file, or a table with one. Which of both is told by its kind, so that messages are about it.
Task = Annotated[
    Annotated[str, AfterValidator(_require_task), Tag("name")] | Annotated[TaskSettings, Tag("table")],
    Discriminator(lambda task: "table" if isinstance(task, dict | TaskSettings) else "name"),
]


class FileSettings(SourceSettings):
    """How a file is written: what a source declares (:class:`SourceSettings`), and for CSV how its rows are divided.

    Attributes:
        delimiter: between columns.
        encoding: of the text, as Python names it.
        skip_lines: lines before the one with the names of columns.
        missing: texts that stand for no value, beside an empty one.
    """

    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    encoding: Annotated[str, AfterValidator(_require_encoding)] = "utf-8"
    skip_lines: Annotated[int, Field(ge=0)] = 0
    missing: Sequence[str] = ()


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Origin(_Part):
    """Where one table is from: a file, or the query of a database.

    Attributes:
        file: CSV or Parquet, as a path from the folder of the data.
        query: SQL, run in :attr:`CohortMapping.database`.
        offset: unit of times that are numbers: they count from the admission, and all stays begin at one date.
    """

    file: Name | None = None
    query: Name | None = None
    offset: Literal["s", "min", "h", "d"] | None = None

    @model_validator(mode="after")
    def _require_one_origin(self) -> Self:
        if (self.file is None) == (self.query is None):
            raise ValueError("expected either file or query")
        return self

    @property
    def title(self) -> str:
        """What messages call the table."""
        return self.file or "query"


class TableSettings(Origin):
    """A table about stays.

    Attributes:
        stay: the column that names the stay. Of patients with one stay each it may be the patient's.
    """

    stay: Name


class EventTable(Origin):
    """Coded events of patients, such as those of MEDS: what a task file of ACES is about.

    Attributes:
        patient: the column that names the patient, as that of the stays does.
        time: when it happened; empty: a fact of the patient.
        code: the column with the code.
        value: that with the number, if there is one.
    """

    patient: Name
    time: Name
    code: Name
    value: Name | None = None


class ObservationTable(TableSettings):
    """A table of observations: wide, with a column a signal, or long, with a row a value.

    Attributes:
        time: the column that says when they were observed.
        recorded: that says when they were known; default: when they were observed.
        device: that names the device.
        signals: wide: the column of each signal.
        signal: long: the column that names the signal.
        value, unit: long: the columns of value and unit.
        comparator: long: the column that makes a value a bound: ``<``, ``<=``, ``>`` or ``>=``; else it is empty.
        codes: long: which texts of the column ``signal`` stand for which signals. Rows with other texts are left out. Default:
            names of signals, and LOINC and MDC codes.
    """

    time: Name
    recorded: Name | None = None
    device: Name | None = None
    signals: dict[SignalName, Name] = {}
    signal: Name | None = None
    value: Name | None = None
    unit: Name | None = None
    comparator: Name | None = None
    codes: dict[str, SignalName] = {}

    @model_validator(mode="after")
    def _require_one_form(self) -> Self:
        is_long = self.signal is not None and self.value is not None
        if bool(self.signals) == is_long:
            raise ValueError("expected either signals (wide: a column a signal), or signal and value (long: a row a value)")
        if self.signals and (self.signal or self.value or self.unit or self.comparator or self.codes):
            raise ValueError("signal, value, unit, comparator and codes belong to a long table; a wide one has signals alone")
        return self

    def known_codes(self) -> dict[str, str]:
        """Return which texts of a long table stand for which signals, or codes of signals."""
        return self.codes or {name: name for name in accepted_names()}


class SexCodes(_Part):
    """Which texts mean which sex, whatever their case. Any other text is unknown."""

    female: Texts = ["female", "f"]
    male: Texts = ["male", "m"]


class StayTable(TableSettings):
    """The table of stays. Several rows of a stay must agree.

    Attributes:
        patient: the column that names the patient, where some have several stays. All of them belong to one split.
        start, end: of monitoring; default: the first and the last observation.
        age: in years.
        born: date of birth, of which the age at the start is made; one of the two.
        sex: told by ``sex_codes``.
        site, ward: where the stay was.
        unit_admitted_at, hospital_admitted_at: times.
        attributes: other columns by which patients are grouped when fairness is examined, such as insurance, by a name for
            each. No model reads them.
    """

    patient: Name | None = None
    start: Name | None = None
    end: Name | None = None
    age: Name | None = None
    born: Name | None = None
    sex: Name | None = None
    sex_codes: SexCodes = SexCodes()
    site: Name | None = None
    ward: Name | None = None
    unit_admitted_at: Name | None = None
    hospital_admitted_at: Name | None = None
    attributes: dict[AttributeName, Name] = {}

    @model_validator(mode="after")
    def _require_one_age(self) -> Self:
        if self.age and self.born:
            raise ValueError("expected either age or born")
        return self


class OutcomeTable(TableSettings):
    """Where the outcomes are: the time of an onset, or a label a row, or whether it happened by the end of the stay.

    Attributes:
        onset: the column with the time of the onset; empty: there was none.
        label: the column that is true at the times (column ``time``) when the outcome is about to happen, or has.
        lead_hours: for how long before its onset the label is true already.
        event: the column that is true where the outcome happened at the end of the stay, such as death.
        time: of the labels.
        true: texts that mean true, whatever their case.
    """

    onset: Name | None = None
    label: Name | None = None
    lead_hours: Annotated[float, Field(ge=0, le=72)] = 0
    event: Name | None = None
    time: Name | None = None
    true: Texts = ["1", "1.0", "true", "yes"]

    @model_validator(mode="after")
    def _require_one_form(self) -> Self:
        if sum(column is not None for column in (self.onset, self.label, self.event)) != 1:
            raise ValueError("expected one of onset, label and event")
        if (self.label is None) != (self.time is None):
            raise ValueError("label and time belong together: the label holds at that time")
        return self


class CohortMapping(_Part):
    """A mapping.

    Attributes:
        name: of the cohort, as reports show it.
        task: the question, whose outcome is in the data: the name of a built-in one, a task file of ACES, or a table
            (:class:`TaskSettings`).
        deidentified: whether its publisher de-identified the patients.
        shifted_dates: whether times may lie in any year, the future too, as publishers shift them.
        database: for queries: ``files``, the CSV and Parquet files of the folder, or an SQLAlchemy URL, in which ``$NAME``
            stands for an environment variable, such as a password.
        default: how files are written.
        files: how single files are written, by name, where that differs. What is left out here is as in ``default``.
        observations, stays, outcomes: the tables. Without ``stays`` nothing but observations is known of patients.
        events: what a task file of ACES is about; ``stays`` then names patient, start and end, and no ``outcomes`` are needed.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
    task: Task = "deterioration"
    deidentified: bool = False
    shifted_dates: bool = False
    database: Name | None = None
    default: FileSettings = FileSettings()
    files: dict[str, FileSettings] = {}
    observations: Annotated[list[ObservationTable], Field(min_length=1)]
    stays: StayTable | None = None
    outcomes: OutcomeTable | None = None
    events: EventTable | None = None

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, content: Any) -> Any:
        """Let each file have what the default says, where it says nothing itself."""
        match content:
            case {"default": dict(default), "files": dict(files)}:
                return {**content, "files": {name: {**default, **own} for name, own in files.items()}}
        return content

    @model_validator(mode="after")
    def _require_consistency(self) -> Self:
        tables = self.tables
        if unknown := sorted(set(self.files) - {table.file for table in tables}):
            raise ValueError(f"files: {', '.join(unknown)}: no table reads it; expected the name that a table has as its file")
        if self.database is None and any(table.query for table in tables):
            raise ValueError("database is missing: a query needs the URL of one")
        return self

    @property
    def tables(self) -> list[Origin]:
        """All tables."""
        return [*self.observations, *filter(None, (self.stays, self.outcomes, self.events))]

    def settings_of(self, table: Origin) -> FileSettings:
        """Return how the file of a table is written."""
        return self.files.get(table.title, self.default)

    def declarations(self) -> Declarations:
        """Return what the files declare; the source of an observation is the title of its table."""
        return Declarations(self.default.declaration(), {name: own.declaration() for name, own in self.files.items()})


ACES_SUFFIXES: Final = (".yaml", ".yml")  # of task files
_SHIPPED: Final = resources.files("vigil.pipelines.sources.table").joinpath("shipped")
_TOP: Final = ", ".join(CohortMapping.model_fields)


def shipped() -> list[str]:
    """Return the names of the mappings that come with Vigil: those of published layouts."""
    return sorted(one.name.removesuffix(".toml") for one in _SHIPPED.iterdir() if one.name.endswith(".toml"))


def read_text(path: Path) -> str:
    """Return the text of a mapping: of a file, or of one of :func:`shipped`, by its name.

    Raises:
        OSError: there is none, or it cannot be read.
    """
    own = _SHIPPED / f"{path}.toml"
    return (own if not path.exists() and str(path) in shipped() else path).read_text(encoding="utf-8")


def read_mapping(path: Path) -> tuple[CohortMapping, str]:
    """Read a mapping; return it and its text.

    Raises:
        SourceError: it cannot be used; all that is wrong with it is named.
    """
    try:
        text = read_text(path)
        return CohortMapping.model_validate(tomllib.loads(text)), text
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, one['loc'])) or 'mapping'}: {one['msg']}" for one in error.errors()]
        raise SourceError(f"--mapping {path}: {'; '.join(wrong)}; the top level has {_TOP}") from None
    except OSError as error:
        raise SourceError(
            f"--mapping {path}: cannot be read ({type(error).__name__}); draft it: vigil cohort draft FILES --out {path.name}; "
            f"or name one that comes with Vigil: {', '.join(shipped())}"
        ) from None
    except ValueError as error:  # TOML errors are ValueErrors
        raise SourceError(f"--mapping {path}: {error}; expected TOML") from None
