"""Export the cohort of a home: whole patients at a time, in the format that is asked for, with what it says of itself."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd

from vigil.features.errors import VigilError
from vigil.features.pseudonyms import open_pseudonyms
from vigil.models.cohort import patient_of
from vigil.models.own_tasks import own_settings
from vigil.pipelines.cohort_store import CohortStore
from vigil.pipelines.exports.meds import write_meds
from vigil.pipelines.exports.omop import write_omop
from vigil.pipelines.home import Home
from vigil.pipelines.progress import track
from vigil.pipelines.sources import Batch
from vigil.pipelines.sources._shared.origin import ORIGIN, Origin

Writer = Callable[[Iterator[Batch], CohortStore, Path], int]  # returns the number of observations
FORMATS: Final[dict[str, Writer]] = {"meds": write_meds, "omop": write_omop}


@dataclass(frozen=True)
class Exported:
    """What an export holds.

    Attributes:
        format: a key of :data:`FORMATS`.
        folder: where it is.
        patients, stays, outcomes: their numbers.
        observations: their number, as far as the format holds them.
    """

    format: str
    folder: Path
    patients: int
    stays: int
    observations: int
    outcomes: int


def export_cohort(home: Home, written: str, out: Path) -> Exported:
    """Write the cohort of a home into a new folder.

    Args:
        home: it is only read.
        written: a key of :data:`FORMATS`.
        out: the folder; it must not exist, or be empty.

    Raises:
        NoCohortError: the home has no cohort.
        VigilError: there is no such format, or the folder holds files.
    """
    facts = home.cohort.facts
    if written not in FORMATS:
        raise VigilError(f"--format {written}: no such format; expected one of {', '.join(FORMATS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise VigilError(f"--out {out}: holds files; name a new folder, or empty this one")
    stays = _stays_by_shard(home.cohort)
    own = own_settings(facts.task, home.path)
    origin = Origin(
        source=facts.source,
        simulated=facts.simulated,
        deidentified=open_pseudonyms(home.path).is_open,
        task=facts.task,
        own_task=None if own is None else own.model_dump(),
    )
    shards = int(stays["shard"].max()) + 1 if len(stays) else 0
    observations = FORMATS[written](
        track(_whole_patients(home.cohort, stays), f"export {facts.source}", shards), home.cohort, out
    )
    origin.write(out / ORIGIN)  # last, so that an unfinished export has none
    patients = stays["subject_id"].map(patient_of).nunique()
    return Exported(written, out, patients, facts.subjects, observations, facts.events)


def _stays_by_shard(cohort: CohortStore) -> pd.DataFrame:
    """Return ``subject_id, part, shard`` of all stays: a patient's shard is the first partition that holds one of theirs."""
    parts = [stays[["subject_id"]].assign(part=part) for part, (stays,) in enumerate(cohort.iterate("stays"))]
    stays = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"subject_id": [], "part": []})
    return stays.assign(shard=stays.groupby(stays["subject_id"].map(patient_of))["part"].transform("min"))


def _whole_patients(cohort: CohortStore, stays: pd.DataFrame) -> Iterator[Batch]:
    """Yield the cohort in parts of whole patients."""
    for _, own in stays.groupby("shard"):
        wanted = [(part, own.loc[own["part"] == part, "subject_id"].tolist()) for part in sorted(set(own["part"].tolist()))]
        observations, of_stays, outcomes = (
            pd.concat([cohort.read_partition(table, part, subjects) for part, subjects in wanted], ignore_index=True)
            for table in ("observations", "stays", "outcomes")
        )
        yield Batch(observations, of_stays, outcomes)
