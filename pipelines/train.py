"""Train: the default model and its baselines on the training patients, tuned on others, kept in MLflow and registered."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from features.catalogue import SERVICES
from features.store.client import Store
from models.cohort import HELD_OUT_SHARE, TUNE_SHARE, Split, index_times, label, splits
from models.evaluation.alarms import Watch, threshold_at_budget
from models.registry import Registry
from models.risk_model import RiskModel, classifiers
from pipelines.cohort_store import CohortStore
from pipelines.progress import working

# Alarms per patient-day, on the tuning patients, that a band may cost: one in two days for what asks for action, three for
# what asks for a look. A ward will want its own.
ALARM_BUDGETS: Final = {"high": 0.5, "medium": 1.5}
SEED: Final = 2026
REFERENCE: Final = "reference.parquet"  # the drift reference: tuning patients as the replay clock shows them


@dataclass(frozen=True)
class Trained:
    """What a training job registered."""

    model_name: str
    version: str
    alias: str
    run_id: str


def labelled_index(cohort: CohortStore, *wanted: Split) -> pd.DataFrame:
    """Index times of the patients of the given splits: ``subject_id, index_time, onset, onset_known, label, split``."""
    labelled = label(index_times(cohort.read("stays")), cohort.read("outcomes"), cohort.task)
    labelled["split"] = splits(labelled["subject_id"])
    columns = ["subject_id", "index_time", "onset", "onset_known", "label", "split"]
    return labelled.loc[labelled["split"].isin(wanted), columns].reset_index(drop=True)


def train(home: Path, seed: int = SEED) -> Trained:
    """Fit on the training patients only; calibrate and set thresholds on the tuning patients; see no one else.

    Raises:
        TooFewEventsError: a split holds no event.
    """
    cohort = CohortStore(home)
    task, facts = cohort.task, cohort.facts
    with working("training frame through Feast"):
        frame = Store(home).training_frame(labelled_index(cohort, "train", "tune"), task.feature_service)
    registry = Registry(home)
    made_of = {
        "task": task.name,
        "source": facts.source,
        "simulated": facts.simulated,
        "feature_service": task.feature_service,
        "data_digest": digest(frame),
    }
    with registry.run(task.name) as run_id:
        models = _fit(frame, list(SERVICES[task.feature_service]), seed)
        for model in models.values():
            model.facts_ = dict(made_of)
        default = next(iter(models))
        registry.log(
            params={
                **made_of,
                "horizon_hours": task.horizon.total_seconds() / 3600,
                "held_out_share": HELD_OUT_SHARE,
                "tune_share": TUNE_SHARE,
                "seed": seed,
                **{key: value for key, value in models[default].estimator.get_params().items() if value is not None},
            },
            tags={"source": facts.source, "simulated": str(facts.simulated).lower()},
            dictionaries={
                "features.json": {"features": models[default].features},
                "thresholds.json": models[default].thresholds_,
            },
            tables={REFERENCE: _reference(frame, models[default])},
        )
        with working("store models"):
            registry.log_models(models, frame.head(100))
    version, alias = registry.register(run_id, default, task.name, {"simulated": str(facts.simulated).lower()})
    return Trained(task.name, version, alias, run_id)


def digest(frame: pd.DataFrame) -> str:
    """A fingerprint of a training frame: its columns and all its values."""
    hashed = hashlib.blake2b(",".join(frame.columns).encode(), digest_size=16)
    hashed.update(pd.util.hash_pandas_object(frame["subject_id"], index=False).to_numpy().tobytes())
    for column in frame.columns.drop(["subject_id", "split"]):
        values = frame[column]
        hashed.update(np.ascontiguousarray(values.astype("int64") if values.dtype.kind == "M" else values).tobytes())
    return hashed.hexdigest()


def _fit(frame: pd.DataFrame, features: list[str], seed: int) -> dict[str, RiskModel]:
    tune_watched = frame[frame["split"] == "tune"]
    train_part = frame[(frame["split"] == "train") & frame["label"].notna()]
    tune_part = tune_watched[tune_watched["label"].notna()]
    models = dict(classifiers(features, seed))
    for name, model in models.items():
        with working(f"fit {name}"):
            model.fit(train_part, train_part["label"], tune_X=tune_part, tune_y=tune_part["label"])
            watch = Watch.of(tune_watched.assign(probability=model.risk(tune_watched)))
            model.thresholds_ = {band: threshold_at_budget(watch, budget) for band, budget in ALARM_BUDGETS.items()}
    return models


def _reference(frame: pd.DataFrame, model: RiskModel) -> pd.DataFrame:
    """Each tuning patient at the last index time, features and probability, without identifier or time.

    Not the training patients: the model is surer of those than it will be of anybody else.
    """
    last = frame[frame["split"] == "tune"].groupby("subject_id", sort=False).tail(1)
    return last[model.features].assign(probability=model.risk(last)).reset_index(drop=True)
