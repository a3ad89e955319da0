"""Reproduction of a sample of the predictions of a home, or of one of them (:mod:`vigil.serving.scoring.reproduction`)."""

from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pandas as pd

from vigil.features.batch import build_features
from vigil.features.errors import VigilError
from vigil.models.registry import Registry
from vigil.models.seeds import SEED
from vigil.pipelines.cohort_store import CohortStore, NoCohortError
from vigil.pipelines.progress import track
from vigil.serving.records.journal import Journal
from vigil.serving.records.prediction_log import SCHEMA, PredictionLog
from vigil.serving.records.prediction_rows import ORIGINS
from vigil.serving.scoring.reproduction import CohortFeatures, PredictionGroup, Sources, Verdict

SAMPLE: Final = 200


class NoPredictionsError(VigilError):
    """The home has made no prediction, or not the one that is asked for."""


@dataclass(frozen=True)
class Reproduction:
    """The result of a sample.

    Attributes:
        sampled: number of predictions.
        origins: by origin, how many have which verdict; ``not_stored``: neither observations nor features were.
        different: by prediction, the names of the outputs that differ.
    """

    sampled: int
    origins: dict[str, Counter[Verdict]] = field(default_factory=dict)
    different: dict[str, list[str]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the result for programs."""
        return asdict(self) | {"origins": {origin: dict(counts) for origin, counts in self.origins.items()}}


def reproduce(home: Path, sample: int = SAMPLE, seed: int = SEED, prediction_id: str | None = None) -> Reproduction:
    """Make a random sample of predictions again, or the one of an id, and compare exactly; a server may be running.

    Raises:
        NoPredictionsError: there is none.
        NoModelError: a model version that predicted is not in the registry any more.
    """
    logged = _read(home, sample, seed, prediction_id)
    result = Reproduction(len(logged), {origin: Counter() for origin in ORIGINS if (logged["origin"] == origin).any()})
    groups: Any = list(logged.groupby(["model_name", "model_version", "feature_service"], dropna=False, sort=False))
    with Journal(home).snapshot() as journal:  # one transaction, so that retention cannot come between
        sources = Sources(journal, PredictionLog(home), _features_of(CohortStore(home)))
        for (name, version, service), rows in track(groups, "reproduce", len(groups)):
            # A prediction made while a model was withdrawn names no model; one that names it was made before or after.
            registered = (
                replace(Registry.open_existing(home).load(name, version), withdrawn=False) if isinstance(version, str) else None
            )
            group = PredictionGroup(sources, registered, service, rows.reset_index(drop=True))
            for row, (verdict, outputs) in group.verdicts().items():
                result.origins[group.logged["origin"][row]][verdict] += 1
                if verdict == "different":
                    result.different[group.logged["prediction_id"][row]] = outputs
    return result


def _read(home: Path, sample: int, seed: int, prediction_id: str | None) -> pd.DataFrame:
    path = home / SCHEMA.file
    if not path.exists():
        logged = pd.DataFrame()
    elif prediction_id is None:
        logged = PredictionLog(home).sample(sample, seed)
    else:
        logged = PredictionLog(home).find(prediction_id)
    if not logged.empty:
        return logged
    if prediction_id is None:
        raise NoPredictionsError(f"{path}: no prediction; make some first: vigil predict, or vigil serve")
    raise NoPredictionsError(f"{path}: no prediction has the id {prediction_id}; expected the id of a RiskAssessment")


def _features_of(cohort: CohortStore) -> CohortFeatures:
    """Return the function that computes features of a batch cohort."""

    def from_cohort(views: tuple[str, ...], keys: pd.DataFrame) -> pd.DataFrame:
        subjects, parts = keys["subject_id"].unique(), [keys.head(0)]
        try:
            number = cohort.count_partitions()
        except NoCohortError:
            number = 0
        for part in range(number):
            stays = cohort.read_partition("stays", part)
            index = keys.merge(stays, on="subject_id").drop_duplicates(["subject_id", "index_time"])
            if len(index):
                observations = cohort.read_partition("observations", part, of=subjects)
                parts.append(build_features(observations, index, views))
        return pd.concat(parts[1:] or parts, ignore_index=True)

    return from_cohort
