"""Data sources: each turns one kind of data into the same three tables. The rest of the chain knows nothing of the source."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import pandas as pd

from features.errors import VigilError


class SourceError(VigilError):
    """The data named by the user cannot be read as this source."""


STAYS: Final = ("subject_id", "start", "end", "unit_admitted_at", "hospital_admitted_at", "age", "sex", "site", "unit")
OUTCOMES: Final = ("subject_id", "onset", "kind", "onset_known")

_LARGEST_FILE: Final = 10_000_000  # bytes of a stay: years of hours


def refuse_large(name: str, size: int) -> None:
    """Refuse a file of a stay before it is read: a small archive can hold any number of bytes.

    Raises:
        SourceError: it is larger than any stay.
    """
    if size > _LARGEST_FILE:
        raise SourceError(f"{name}: {size:,} bytes; expected at most {_LARGEST_FILE:,}, one stay; mend or leave out that file")


@dataclass(frozen=True)
class Batch:
    """A part of a cohort: some subjects, whole.

    Attributes:
        observations: columns of :mod:`features.observations`, unchecked, ``unit`` optional.
        stays: columns :data:`STAYS`: ``start, end`` of monitoring (UTC), ``unit_admitted_at, hospital_admitted_at`` (may be
            NaT), ``age`` (years), ``sex`` (0 female, 1 male), ``site``, ``unit`` (ward; may be missing). One row a subject.
        outcomes: columns :data:`OUTCOMES`. No row: no event. ``onset_known`` is False where the event was
            under way when the record began, so that ``onset`` is only its latest possible time.
    """

    observations: pd.DataFrame
    stays: pd.DataFrame
    outcomes: pd.DataFrame


class Source(Protocol):
    """What a source offers the chain."""

    name: str
    simulated: bool
    deidentified: bool  # simulated, or de-identified by those who published it
    task: str  # a name in models.tasks.TASKS: the risk this cohort's outcomes let us learn

    def __len__(self) -> int:
        """Number of batches that :meth:`batches` will yield."""
        ...

    def batches(self) -> Iterator[Batch]:
        """The cohort in parts, each subject in exactly one of them, in an order that never changes."""
        ...


def _simulated(data: Path | None) -> Source:
    from pipelines.sources.simulated import SimulatedWard

    if data is not None:
        raise SourceError("--data: the simulated ward takes no data; leave it out, or name another --source")
    return SimulatedWard()


def _cinc2019(data: Path | None) -> Source:
    from pipelines.sources.cinc2019 import Cinc2019

    return Cinc2019(_given(data, "cinc2019 needs the official training_setA.zip or a folder of .psv files"))


def _cinc2012(data: Path | None) -> Source:
    from pipelines.sources.cinc2012 import Cinc2012

    return Cinc2012(_given(data, "cinc2012 needs set-a.tar.gz or the folder set-a, with Outcomes-a.txt beside it"))


def _eicu_sepsis(data: Path | None) -> Source:
    from pipelines.sources.eicu_demo import EicuDemo

    return EicuDemo(_given(data, "eicu_sepsis needs the folder of hourly.parquet and label_sepsis.parquet"), "sepsis")


def _eicu_aki(data: Path | None) -> Source:
    from pipelines.sources.eicu_demo import EicuDemo

    return EicuDemo(_given(data, "eicu_aki needs the folder of hourly.parquet and label_aki.parquet"), "aki")


def _ahe2009(data: Path | None) -> Source:
    from pipelines.sources.ahe2009 import Ahe2009

    return Ahe2009(_given(data, "ahe2009 needs the folder of map_1min.parquet and records.parquet"))


def _given(data: Path | None, need: str) -> Path:
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
}


def open_source(name: str, data: Path | None) -> Source:
    """The source of that name over the data at that path.

    Raises:
        SourceError: no such source, or its data cannot be read.
    """
    if name not in SOURCES:
        raise SourceError(f"--source {name}: no such source; choose one of {', '.join(SOURCES)}")
    return SOURCES[name](data)
