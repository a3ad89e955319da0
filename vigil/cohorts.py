"""Cohorts from Python: opened, checked, and drafted from tables."""

from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from vigil.notebook_views import html_table

if TYPE_CHECKING:  # their libraries take seconds
    from vigil.pipelines.jobs.check_cohort import CohortCheck
    from vigil.pipelines.sources import Batch, Source
    from vigil.pipelines.sources.table.draft import Draft


@dataclass(frozen=True)
class Cohort:
    """A cohort as its source gives it: nothing is checked or stored yet.

    Attributes:
        source: where it is from.
    """

    source: "Source"

    @property
    def observations(self) -> pd.DataFrame:
        """The readings that can be used, checked; ``unit`` is the signal's own."""
        from vigil.pipelines.jobs.ingest import check_readings

        return with_units(check_readings(self._table("observations"), self.source).accepted)

    @property
    def stays(self) -> pd.DataFrame:
        """A row a stay: ``subject_id, start, end`` and what is known of the patient."""
        return self._table("stays")

    @property
    def outcomes(self) -> pd.DataFrame:
        """A row a stay with the outcome: ``subject_id, onset, kind, onset_known``."""
        return self._table("outcomes")

    def check(self) -> "CohortCheck":
        """Return what becomes of it: signals, quarantine, facts and outcomes, as ``vigil cohort check`` shows them.

        Raises:
            VigilError: its tables break their contract.
        """
        from vigil.pipelines.jobs.check_cohort import check_cohort

        return check_cohort(self.source)

    def _table(self, name: str) -> pd.DataFrame:
        tables: list[pd.DataFrame] = [getattr(batch, name) for batch in self._batches]
        return pd.concat(tables, ignore_index=True)

    @cached_property
    def _batches(self) -> "list[Batch]":
        return list(self.source.batches())

    def _repr_html_(self) -> str:
        result = self.check()
        rows = [
            (
                name,
                f"{own.accepted:,}",
                f"{own.median:g} {own.unit}",
                ", ".join(f"{why} {n:,}" for why, n in own.quarantined.items()),
            )
            for name, own in result.signals.items()
        ]
        head = f"{result.name}: {result.stays:,} stays, {result.events:,} with the outcome ({result.task})"
        warnings = "".join(f"<p>Look: {escape(warning)}.</p>" for warning in result.warnings)
        return f"<p><b>{escape(head)}</b></p>{html_table(('signal', 'observations', 'median', 'quarantined'), rows)}{warnings}"


def read_cohort(source: str | Path, data: str | Path | None = None) -> Cohort:
    """Open a cohort.

    Args:
        source: a mapping of tables (a ``.toml`` file, or the name of one that comes with Vigil), or a source by name, as
            ``vigil run --source`` takes it.
        data: path of the data; default: the folder of the mapping. The simulated ward has none.

    Raises:
        VigilError: there is no such source, or its data cannot be read.

    >>> read_cohort("simulated").source.name
    'simulated'
    """
    from vigil.pipelines.sources import SOURCES, open_source

    path = None if data is None else Path(data)
    if str(source) in SOURCES:
        return Cohort(open_source(str(source), path))
    return Cohort(open_source(None, path, Path(source)))


def draft_mapping(*files: str | Path, time_zone: str | None = None) -> "Draft":
    """Propose a mapping of tables: its ``text``, to be written and looked at, and ``doubts``, which people have to decide.

    Args:
        files: CSV or Parquet files of one folder.
        time_zone: of times without one, such as ``Europe/Berlin``.

    Raises:
        VigilError: a file cannot be read, or none holds observations.
    """
    from vigil.pipelines.sources.table.draft import draft

    return draft([Path(file) for file in files], time_zone)


def with_units(observations: pd.DataFrame) -> pd.DataFrame:
    """Return observations with the unit of their signals, so that nothing has to be guessed where they are handed on."""
    from vigil.features.signals import STORED

    return observations.assign(unit=observations["signal"].astype(object).map({name: own.unit for name, own in STORED.items()}))
