"""OMOP tables: those that Vigil exported are read back as they were, others by the shipped mapping ``omop``."""

from pathlib import Path

from vigil.pipelines.sources import Source
from vigil.pipelines.sources._shared.origin import ORIGIN
from vigil.pipelines.sources.omop.source import OmopExport


def open_omop(data: Path) -> Source:
    """Open a folder of OMOP tables.

    Raises:
        SourceError: it cannot be used.
    """
    if (data / ORIGIN).exists():
        return OmopExport(data)
    from vigil.pipelines.sources.table import TableCohort

    return TableCohort(Path("omop"), data)
