"""The ingested cohort on disk: ``HOME/cohort/<table>/part-*.parquet`` and ``HOME/cohort/cohort.json``."""

import hashlib
import json
import shutil
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import pandas as pd

from features.errors import VigilError
from models.monitoring.received import together
from models.tasks import TASKS, RiskTask

TABLES: Final = ("observations", "quarantine", "stays", "outcomes")


class NoCohortError(VigilError):
    """Nothing was ingested into this home."""


@dataclass(frozen=True)
class Facts:
    """What is known of an ingested cohort.

    Attributes:
        source, simulated, task: of the source.
        subjects, events: in it.
        observations: that can be used.
        quarantined: readings that cannot, by reason.
        quarantined_signals: the same by signal and reason.
    """

    source: str
    simulated: bool
    task: str
    subjects: int
    events: int
    observations: int
    quarantined: dict[str, int]
    quarantined_signals: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def quarantined_share(self) -> float:
        """Of all readings; 1 where there is none at all."""
        unusable = sum(self.quarantined.values())
        return unusable / (unusable + self.observations) if self.observations else 1.0


class CohortStore:
    """Reads and writes the cohort of one home. Part n holds all tables of the same subjects."""

    def __init__(self, home: Path) -> None:
        self.folder = home.resolve() / "cohort"
        self._facts = self.folder / "cohort.json"

    def clear(self) -> None:
        """Forget the cohort."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def write(self, part: int, **tables: pd.DataFrame) -> None:
        """Write tables of one part."""
        for name, table in tables.items():
            path = self._path(name, part)
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".unfinished")
            table.to_parquet(unfinished, index=False)
            unfinished.replace(path)

    def finish(self, facts: Facts) -> None:
        """Write the facts, last: a cohort without them is unfinished and is not read."""
        self._facts.write_text(json.dumps(asdict(facts), indent=2))

    @property
    def facts(self) -> Facts:
        """The facts of the cohort.

        Raises:
            NoCohortError: none was ingested, or the ingest did not finish.
        """
        if not self._facts.exists():
            raise NoCohortError(f"{self._facts}: no cohort there; ingest one first: vigil ingest --source NAME")
        try:
            return Facts(**json.loads(self._facts.read_text()))
        except (ValueError, TypeError):
            raise NoCohortError(f"{self._facts}: not written by this version; ingest again: vigil ingest") from None

    @property
    def ingested_at(self) -> float:
        """When, in seconds since 1970."""
        return self._facts.stat().st_mtime

    @property
    def task(self) -> RiskTask:
        """The task the cohort's outcomes let us learn."""
        return TASKS[self.facts.task]

    def parts(self) -> int:
        """Number of parts."""
        return len(list((self.folder / "stays").glob("part-*.parquet"))) if self.facts else 0

    def read(self, table: str) -> pd.DataFrame:
        """A whole table (not the observations of a large cohort: those come in parts)."""
        return pd.concat([self.read_part(table, part) for part in range(self.parts())], ignore_index=True)

    def read_part(self, table: str, part: int, of: Collection[str] | None = None) -> pd.DataFrame:
        """One part of a table. ``of``: these subjects; default: all."""
        among = None if of is None else [("subject_id", "in", list(of))]
        return pd.read_parquet(self._path(table, part), filters=among)

    def received(self, part: int) -> pd.DataFrame:
        """Return the observations of a part as they arrived, also quarantined ones (:mod:`models.monitoring.received`)."""
        return together(self.read_part("observations", part), self.read_part("quarantine", part))

    def digest(self, table: str, part: int) -> str:
        """A fingerprint of one part of a table: the same readings, the same fingerprint."""
        with self._path(table, part).open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()

    def iterate(self, *tables: str) -> Iterator[tuple[pd.DataFrame, ...]]:
        """The tables part by part."""
        for part in range(self.parts()):
            yield tuple(self.read_part(table, part) for table in tables)

    def _path(self, table: str, part: int) -> Path:
        return self.folder / table / f"part-{part:05}.parquet"


def served_task(home: Path) -> str:
    """Name of the task whose model a home serves: its cohort's, or deterioration where nothing was ingested."""
    try:
        return CohortStore(home).task.name
    except NoCohortError:
        return "deterioration"
