"""A cohort of any tables, by a mapping that people write: :mod:`vigil.pipelines.sources.table.mapping` says what is what."""

from vigil.pipelines.sources.table.cohort import TableCohort

__all__ = ["TableCohort"]
