"""Data sources. Each turns one kind of data into the same three tables, so the rest of the chain does not depend on it."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final

import pandas as pd
from pydantic import AfterValidator

from vigil.features.declarations import OWN_UNITS, Declarations
from vigil.features.errors import VigilError
from vigil.features.installed import describe, find_entry_points, load, refuse
from vigil.models.own_tasks import TaskSettings
from vigil.models.tasks import RiskTask


class SourceError(VigilError):
    """An error for data that cannot be read as the source that was named."""


TABLE: Final = "table"  # the source of any tables, by a mapping
FHIR: Final = "fhir"  # the source of a FHIR export, perhaps with settings
STAYS: Final = ("subject_id", "start", "end", "unit_admitted_at", "hospital_admitted_at", "age", "sex", "site", "unit")
OUTCOMES: Final = ("subject_id", "onset", "kind", "onset_known")

# What else tables about stays, and their index times, hold.
_TAKEN: Final = {"stay", "patient", "born", "ward", "age_band", "index_time", "label", "probability"}


def _require_attribute_name(name: str) -> str:
    if not re.fullmatch("[a-z][a-z0-9_]{0,39}", name):
        raise ValueError(f"{name} is no name of an attribute; expected small letters, digits and _, such as insurance")
    if name in {*STAYS, *OUTCOMES, *_TAKEN}:
        raise ValueError(f"{name} has a meaning of its own; name the attribute differently")
    return name


AttributeName = Annotated[str, AfterValidator(_require_attribute_name)]
"""Name of an attribute: a column of stays beside :data:`STAYS`, by which patients are grouped."""

_LARGEST_STAY_FILE: Final = 10_000_000  # bytes; enough for years of hourly rows


def refuse_large(name: str, size: int) -> None:
    """Refuse the file of a stay before it is read if it is too large.

    A small archive can expand to any number of bytes.

    Args:
        name: of the file.
        size: in bytes.

    Raises:
        SourceError: the file is larger than that of any stay.
    """
    if size > _LARGEST_STAY_FILE:
        raise SourceError(
            f"{name}: {size:,} bytes; expected at most {_LARGEST_STAY_FILE:,} for one stay; correct or remove that file"
        )


@dataclass(frozen=True)
class Batch:
    """A part of a cohort: some of its subjects, each complete.

    Attributes:
        observations: columns of :mod:`vigil.features.observations`, unchecked, ``unit`` optional.
        stays: columns :data:`STAYS` and attributes (:data:`AttributeName`), one row for each subject. ``start, end`` of
            monitoring (UTC); ``unit_admitted_at, hospital_admitted_at`` (may be NaT); ``age`` (years); ``sex`` (0 female, 1
            male); ``site``; ``unit`` (ward; may be missing).
        outcomes: columns :data:`OUTCOMES`. A subject without a row has no event. ``onset_known`` is False where the event had
            begun before the record, so that ``onset`` is only its latest possible time.
    """

    observations: pd.DataFrame
    stays: pd.DataFrame
    outcomes: pd.DataFrame


class Source(ABC):
    """The base of data sources.

    Attributes:
        name: of the source, as ``--source`` takes it.
        task: the question, whose answer can be learned from this cohort's outcomes.
        simulated: whether the patients are simulated.
        deidentified: whether the patients are simulated, or were de-identified by the publisher of the data.
        declared: what the source declares of its observations: units and the like.
        shifted_dates: whether its times may lie in the future, as publishers shift them.
        is_export: whether Vigil exported the cohort. Its subjects are subject keys already, and its observations were resolved
            (:mod:`vigil.features.resolved`).
        own_task: the settings of the task, where it is neither built in nor of an installed package. The home stores them.
        left_out: rows that are no observations of a signal, by table and code; known after the last batch.
        notes: what to know about the cohort, in sentences.
    """

    name: str
    task: RiskTask
    simulated: bool = False
    deidentified: bool = False
    declared: Declarations = OWN_UNITS
    shifted_dates: bool = False
    is_export: bool = False
    own_task: TaskSettings | None = None
    left_out: Mapping[str, Mapping[str, int]] = MappingProxyType({})
    notes: Sequence[str] = ()

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of batches that :meth:`batches` yields."""

    @abstractmethod
    def batches(self) -> Iterator[Batch]:
        """Yield the cohort in batches. Each subject is in exactly one, and their order never changes."""


def _simulated(data: Path | None) -> Source:
    from vigil.pipelines.sources.simulated import SimulatedWard

    if data is not None:
        raise SourceError("--data: the simulated ward takes no data; leave --data out, or name another --source")
    return SimulatedWard()


def _cinc2019(data: Path | None) -> Source:
    from vigil.pipelines.sources.cinc2019 import Cinc2019

    return Cinc2019(_require_path(data, "cinc2019 needs the official training_setA.zip or a folder of .psv files"))


def _cinc2012(data: Path | None) -> Source:
    from vigil.pipelines.sources.cinc2012 import Cinc2012

    return Cinc2012(_require_path(data, "cinc2012 needs set-a.tar.gz or the folder set-a, with Outcomes-a.txt beside it"))


def _eicu_sepsis(data: Path | None) -> Source:
    from vigil.pipelines.sources.eicu_demo import EicuDemo

    return EicuDemo(_require_path(data, "eicu_sepsis needs the folder of hourly.parquet and label_sepsis.parquet"), "sepsis")


def _eicu_aki(data: Path | None) -> Source:
    from vigil.pipelines.sources.eicu_demo import EicuDemo

    return EicuDemo(_require_path(data, "eicu_aki needs the folder of hourly.parquet and label_aki.parquet"), "aki")


def _ahe2009(data: Path | None) -> Source:
    from vigil.pipelines.sources.ahe2009 import Ahe2009

    return Ahe2009(_require_path(data, "ahe2009 needs the folder of map_1min.parquet and records.parquet"))


def _meds(data: Path | None) -> Source:
    from vigil.pipelines.sources.meds import open_meds

    return open_meds(_require_path(data, "meds needs the folder of a MEDS data set, with data and metadata in it"))


def _omop(data: Path | None) -> Source:
    from vigil.pipelines.sources.omop import open_omop

    return open_omop(_require_path(data, "omop needs the folder of OMOP tables, one CSV or Parquet file a table"))


def _fhir(data: Path | None, settings: Path | None = None) -> Source:
    from vigil.pipelines.sources.fhir import FhirCohort

    return FhirCohort(_require_path(data, "fhir needs the folder of a FHIR $export, or of Bundles"), settings)


def _require_path(data: Path | None, need: str) -> Path:
    if data is None:
        raise SourceError(f"--data is missing: {need}")
    return data


SOURCES: dict[str, Callable[[Path | None], Source]] = {
    "simulated": _simulated,
    "cinc2019": _cinc2019,
    "cinc2012": _cinc2012,
    "eicu_sepsis": _eicu_sepsis,
    "eicu_aki": _eicu_aki,
    "ahe2009": _ahe2009,
    "meds": _meds,
    "omop": _omop,
    FHIR: _fhir,
}


def open_source(name: str | None, data: Path | None, mapping: Path | None = None, task: Path | None = None) -> Source:
    """Open a source by name over the data at a path.

    Args:
        name: a key of :data:`SOURCES`, :data:`TABLE`, or the name of an installed package's entry point ``vigil.sources``, a
            function that takes the path of the data and returns a source. None: a mapping means tables, else it is the
            simulated ward.
        data: path of the data; None for the simulated ward, and for tables in the folder of their mapping.
        mapping: what the columns of tables are, or the settings of a FHIR cohort.
        task: a task file of ACES, in place of the mapping's task.

    Raises:
        SourceError: there is no such source, or its data cannot be read.
        PackageError: what an installed package adds is no source.

    Example:
        >>> ward = open_source("simulated", None)
        >>> ward.task.name, len(ward)
        ('deterioration', 6)
    """
    name = name or ("simulated" if mapping is None else TABLE)
    if name == TABLE:
        from vigil.pipelines.sources.table import TableCohort

        if mapping is None:
            raise SourceError("--mapping is missing: table needs one; draft it from the tables: vigil cohort draft FILES")
        return TableCohort(mapping, data, task)
    if task is not None:
        raise SourceError(f"--task: {name} has a task of its own; leave it out, or bring tables by a --mapping")
    if name == FHIR:
        return _fhir(data, mapping)
    if mapping is not None:
        raise SourceError(f"--mapping: {name} takes none; leave it out, or name --source {TABLE} or {FHIR}")
    installed = find_entry_points("vigil.sources", taken={*SOURCES, TABLE})
    if name in SOURCES:
        return SOURCES[name](data)
    if name not in installed:
        known = (*SOURCES, TABLE, *installed)
        raise SourceError(f"--source {name}: no such source; choose one of {', '.join(known)}")
    opened = load(installed[name], object)
    source = opened(data) if callable(opened) else opened
    if not isinstance(source, Source):
        refuse(
            f"{describe(installed[name])}: vigil.sources {name}", f"gives {type(source).__name__}; expected a {__name__}.Source"
        )
    return source
