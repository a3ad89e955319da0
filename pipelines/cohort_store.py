"""The ingested cohort on disk: ``HOME/cohort/<table>/part-*.parquet`` and ``HOME/cohort/cohort.json``."""

import hashlib
import json
import shutil
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pandas as pd

from vigil.features.errors import VigilError
from vigil.models.monitoring.received import merge_received
from vigil.models.own_tasks import find_task
from vigil.models.tasks import RiskTask


class NoCohortError(VigilError):
    """A home without a cohort, or with one that was not ingested completely."""


@dataclass(frozen=True)
class CohortFacts:
    """Summary of an ingested cohort, as ``cohort.json`` holds it.

    Attributes:
        source, simulated, task: of the source.
        subjects: number of stays.
        events: number of stays with the outcome.
        observations: number that can be used, until they are superseded.
        retractions: number of readings that retract an observation.
        quarantined: number of readings that cannot be used, by reason.
        quarantined_signals: the same, by signal and reason.
    """

    source: str
    simulated: bool
    task: str
    subjects: int
    events: int
    observations: int
    quarantined: dict[str, int]
    quarantined_signals: dict[str, dict[str, int]] = field(default_factory=dict)
    retractions: int = 0

    @property
    def quarantined_share(self) -> float:
        """Share of all readings that cannot be used; 1 if there are none at all.

        >>> CohortFacts("ward", True, "deterioration", 2, 1, 90, {"implausible": 10}).quarantined_share
        0.1
        """
        unusable = sum(self.quarantined.values())
        return unusable / (unusable + self.observations) if self.observations else 1.0


class CohortStore:
    """The cohort of one home. Each partition holds all tables of the same subjects."""

    def __init__(self, home: Path) -> None:
        self.folder = home.resolve() / "cohort"
        self._facts = self.folder / "cohort.json"

    def clear(self) -> None:
        """Delete the cohort."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def write(self, part: int, **tables: pd.DataFrame) -> None:
        """Write tables of one partition; each file appears whole or not at all."""
        for name, table in tables.items():
            path = self._path(name, part)
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".unfinished")
            table.to_parquet(unfinished, index=False)
            unfinished.replace(path)

    def finish(self, facts: CohortFacts) -> None:
        """Write the facts, last: a cohort without them is unfinished and is not read."""
        self._facts.write_text(json.dumps(asdict(facts), indent=2))

    @property
    def facts(self) -> CohortFacts:
        """The facts of the cohort.

        Raises:
            NoCohortError: no cohort was ingested, or the ingest did not finish.
        """
        if not self._facts.exists():
            raise NoCohortError(f"{self._facts}: no cohort there; ingest one first: vigil ingest --source NAME")
        try:
            return CohortFacts(**json.loads(self._facts.read_text()))
        except (ValueError, TypeError):
            raise NoCohortError(f"{self._facts}: not written by this version; ingest again: vigil ingest") from None

    @property
    def ingested_at(self) -> float:
        """When the ingest finished, in seconds since 1970."""
        return self._facts.stat().st_mtime

    @property
    def is_finished(self) -> bool:
        """Whether an ingest has finished."""
        return self._facts.exists()

    @property
    def task(self) -> RiskTask:
        """The task of the cohort: its outcomes are the labels."""
        return find_task(self.facts.task, self.folder.parent)

    def count_partitions(self) -> int:
        """Return the number of partitions."""
        return len(list((self.folder / "stays").glob("part-*.parquet"))) if self.facts else 0

    def read(self, table: str) -> pd.DataFrame:
        """Read a whole table. The observations of a large cohort do not fit in memory: read them by partition."""
        return pd.concat([self.read_partition(table, part) for part in range(self.count_partitions())], ignore_index=True)

    def read_partition(self, table: str, part: int, of: Collection[str] | None = None) -> pd.DataFrame:
        """Read one partition of a table, or its rows of some subjects (``of``)."""
        filters = None if of is None else [("subject_id", "in", list(of))]
        return pd.read_parquet(self._path(table, part), filters=filters)

    def received(self, part: int) -> pd.DataFrame:
        """Read the observations of a partition as they arrived, quarantined ones too, by :func:`merge_received`."""
        return merge_received(self.read_partition("observations", part), self.read_partition("quarantine", part))

    def digest(self, table: str, part: int) -> str:
        """Return a fingerprint of one partition of a table: equal files have equal fingerprints."""
        with self._path(table, part).open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()

    def iterate(self, *tables: str) -> Iterator[tuple[pd.DataFrame, ...]]:
        """Yield the tables, partition by partition."""
        for part in range(self.count_partitions()):
            yield tuple(self.read_partition(table, part) for table in tables)

    def _path(self, table: str, part: int) -> Path:
        return self.folder / table / f"part-{part:05}.parquet"
