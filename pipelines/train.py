"""Train: the model and its baselines, cross-fitted on the training patients, kept in MLflow and registered."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.build import KEYS, build_features
from features.catalogue import SERVICES, views_of
from features.store.client import Store
from models.certificate import certify
from models.cohort import HELD_OUT_SHARE, LABELLED, Split, index_times, label, splits
from models.evaluation.alarms import Watch, threshold_at_budget
from models.evaluation.challenges import event1_threshold
from models.evaluation.discrimination import discrimination
from models.habits import remeasured
from models.registry import Registry
from models.risk_model import RiskModel
from models.tasks import RiskTask
from models.variants import DEFAULT, variants
from pipelines.cohort_store import CohortStore
from pipelines.drift.reading_reference import READING_REFERENCE, reading_reference
from pipelines.drift.reference import AUROC, JUDGED_REFERENCE, REFERENCE, judged_hours, patient_days
from pipelines.progress import track, working

LOOK: Final = (
    3  # the medium band, which asks for a look, may cost so many times the alarms of the high one, which asks for action
)
SEED: Final = 2026


@dataclass(frozen=True)
class Trained:
    """What a training job registered."""

    model_name: str
    version: str
    alias: str
    run_id: str


def labelled_index(cohort: CohortStore, wanted: Split) -> pd.DataFrame:
    """Index times of the patients of a split: ``subject_id, index_time, onset, onset_known, label``."""
    labelled = label(index_times(cohort.read("stays"), cohort.task.index), cohort.read("outcomes"), cohort.task)
    return labelled.loc[splits(labelled["subject_id"]) == wanted, LABELLED].reset_index(drop=True)


def train(home: Path, seed: int = SEED) -> Trained:
    """Fit on the training patients only; calibrate and set thresholds on their out-of-fold risks; see no one else.

    Raises:
        TooFewEventsError: there are fewer patients with an event than folds.
    """
    cohort = CohortStore(home)
    task, facts = cohort.task, cohort.facts
    with working("training frame through Feast"):
        frame = Store(home).training_frame(labelled_index(cohort, "train"), task.feature_service)
    elsewhere = _elsewhere(cohort, frame, task)
    registry = Registry(home)
    made_of = {
        "task": task.name,
        "source": facts.source,
        "simulated": facts.simulated,
        "feature_service": task.feature_service,
        "data_digest": digest(frame),
    }
    with registry.run(task.name) as run_id:
        models = variants(SERVICES[task.feature_service], hourly=task.index == "hourly", seed=seed)
        out_of_fold = {}
        for name, model in models.items():
            with working(f"fit {name}"):
                out_of_fold[name] = fit(model, frame, task, elsewhere)
            model.facts_ |= made_of
        model = models[DEFAULT]
        registry.log(
            params={
                **made_of,
                "horizon_hours": task.horizon.total_seconds() / 3600,
                "held_out_share": HELD_OUT_SHARE,
                "train_patients": frame["subject_id"].nunique(),
                "train_events": frame.loc[frame["label"] == 1, "subject_id"].nunique(),
                "seed": seed,
                "folds": model.folds,
                "repeats": model.repeats,
                "most_negatives": model.most_negatives,
                **model.settings,
            },
            tags={"source": facts.source, "simulated": str(facts.simulated).lower()},
            dictionaries={
                "features.json": {"features": model.features},
                "thresholds.json": model.thresholds_,
                "certificate.json": asdict(model.certificate_) if model.certificate_ else {},
            },
            metrics={AUROC: _auroc(frame, out_of_fold[DEFAULT])},
            tables=_references(cohort, frame, model, out_of_fold[DEFAULT], seed),
        )
        with working("store models"):
            registry.log_models(models, frame.head(100))
    version, alias = registry.register(run_id, DEFAULT, task.name, {"simulated": str(facts.simulated).lower()})
    return Trained(task.name, version, alias, run_id)


def digest(frame: pd.DataFrame) -> str:
    """A fingerprint of a training frame: its columns and all its values."""
    hashed = hashlib.blake2b(",".join(frame.columns).encode(), digest_size=16)
    hashed.update(pd.util.hash_pandas_object(frame["subject_id"], index=False).to_numpy().tobytes())
    for column in frame.columns.drop("subject_id"):
        values = frame[column]
        hashed.update(np.ascontiguousarray(values.astype("int64") if values.dtype.kind == "M" else values).tobytes())
    return hashed.hexdigest()


def fit(model: RiskModel, frame: pd.DataFrame, task: RiskTask, elsewhere: pd.DataFrame | None = None) -> NDArray[np.float64]:
    """Cross-fit a model, and set its thresholds and its promise on the risks of patients its members had not seen.

    Args:
        model: unfitted.
        frame: ``subject_id, index_time, onset, onset_known, label`` (NaN: left out of learning) and the model's features.
        task: what the labels mean.
        elsewhere: the same rows under other habits of measuring, to learn from besides.

    Returns:
        The out-of-fold risks, shape (n_rows,).
    """
    risk = model.cross_fit(frame, frame["label"], frame["subject_id"], elsewhere)
    if task.index == "end":  # asked once: nothing sounds, so a high risk is where sensitivity and precision meet
        known = frame["label"].notna().to_numpy()
        label = frame["label"].to_numpy(np.float64)[known]
        model.thresholds_ = {"high": event1_threshold(label, risk[known]), "medium": float(label.mean())}
        return risk
    watch = Watch.of(frame[LABELLED].assign(probability=risk))
    model.certificate_ = certify(watch, task.promise)
    allowed = task.promise.alarms_per_patient_day
    high = model.certificate_.threshold if model.certificate_ else threshold_at_budget(watch, allowed)
    model.thresholds_ = {"high": high, "medium": threshold_at_budget(watch, LOOK * allowed)}
    return risk


def _elsewhere(cohort: CohortStore, frame: pd.DataFrame, task: RiskTask) -> pd.DataFrame:
    """The rows of a training frame, in its order, under other habits of measuring: of no past, so Feast never holds them."""
    patients, views = frame["subject_id"].unique(), views_of(SERVICES[task.feature_service])
    found = []
    for part in track(range(cohort.parts()), "other habits", cohort.parts()):
        stays, observations = (
            table[table["subject_id"].isin(patients)]
            for table in (cohort.read_part(name, part) for name in ("stays", "observations"))
        )
        found.append(build_features(remeasured(observations), index_times(stays, task.index), views))
    return frame[KEYS].merge(pd.concat(found), on=KEYS, how="left", validate="1:1")


def _auroc(frame: pd.DataFrame, risk: NDArray[np.float64]) -> float:
    known = frame["label"].notna().to_numpy()
    return discrimination(frame["label"].to_numpy(np.float64)[known], risk[known])["auroc"]


def _references(
    cohort: CohortStore, frame: pd.DataFrame, model: RiskModel, risk: NDArray[np.float64], seed: int
) -> dict[str, pd.DataFrame]:
    """What drift will be measured against."""
    patients = pd.Index(frame["subject_id"].unique())
    with working("drift reference"):
        return {
            REFERENCE: patient_days(frame, model.features, risk, seed),
            JUDGED_REFERENCE: judged_hours(frame[["subject_id", "label"]].assign(probability=risk)),
            READING_REFERENCE: reading_reference(cohort, patients),
        }
