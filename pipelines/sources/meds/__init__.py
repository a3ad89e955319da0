"""MEDS data sets: those that Vigil exported are read back as they were, others by the shipped mapping ``meds``."""

from pathlib import Path

from vigil.pipelines.sources import Source
from vigil.pipelines.sources._shared.origin import ORIGIN
from vigil.pipelines.sources.meds.source import MedsExport


def open_meds(data: Path) -> Source:
    """Open a MEDS data set.

    Raises:
        SourceError: it cannot be used.
    """
    if (data / ORIGIN).exists():
        return MedsExport(data)
    from vigil.pipelines.sources.table import TableCohort

    return TableCohort(Path("meds"), data)
