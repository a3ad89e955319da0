"""A cohort of any tables, by a mapping that people write: which column is what (:mod:`pipelines.sources.table.mapping`)."""

from pipelines.sources.table.cohort import TableCohort

__all__ = ["TableCohort"]
