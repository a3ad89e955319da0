from collections.abc import Iterator
from pathlib import Path
from vigil.pipelines.cohort_store import CohortStore
from vigil.pipelines.sources import Batch
def write_omop(batches: Iterator[Batch], cohort: CohortStore, out: Path) -> None:
    raise NotImplementedError
