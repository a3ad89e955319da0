"""Train: the model and its baselines, cross-fitted on the training patients, kept in MLflow and registered."""

import dataclasses
import difflib
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.batch import KEYS
from features.catalogue import SERVICES
from features.errors import VigilError
from features.store.client import Store
from models.alarms.guarantee import certify, spent_by_net
from models.alarms.timeline import Watch, threshold_at_budget
from models.assessment import net_of
from models.cohort import HELD_OUT_SHARE, LABELLED, Split, index_times, label, splits
from models.domain import DomainOfUse, columns_read
from models.evaluation.challenges import event1_threshold
from models.evaluation.discrimination import discrimination
from models.monitoring.reference import AUROC, JUDGED_REFERENCE, REFERENCE, judged_hours, patient_days
from models.monitoring.signal_reference import READING_REFERENCE, reading_reference
from models.promotion.gates import Gate, behaviour, refusal
from models.registry import Registry
from models.seeds import SEED
from models.tasks import RiskTask
from models.training.candidate_models import AS_MEASURED, variants
from models.training.measurement_augmentation import Augmented, augment, joined, share_of_quiet_rows
from models.training.risk_model import RiskModel
from pipelines.cohort_store import CohortStore
from pipelines.jobs.behaviour import behaviour_of
from pipelines.progress import CONSOLE, track, working

LOOK: Final = (
    3  # the medium band, which asks for a look, may cost so many times the alarms of the high one, which asks for action
)


@dataclass(frozen=True)
class Trained:
    """What a training job registered.

    Attributes:
        refused: why a first version is not champion, in one line; None: it is, or there was a champion already.
    """

    model_name: str
    version: str
    alias: str
    run_id: str
    refused: str | None = None


def labelled_index(cohort: CohortStore, wanted: Split) -> pd.DataFrame:
    """Index times of the patients of a split: ``subject_id, index_time, onset, onset_known, label``."""
    labelled = label(index_times(cohort.read("stays"), cohort.task.index), cohort.read("outcomes"), cohort.task)
    return labelled.loc[splits(labelled["subject_id"]) == wanted, LABELLED].reset_index(drop=True)


def train(
    home: Path,
    seed: int = SEED,
    *,
    name: str | None = None,
    service: str | None = None,
    only: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Trained:
    """Fit on the training patients only; calibrate and set thresholds on their out-of-fold risks; register.

    A first version becomes champion if it passes the gates of behaviour, which change readings of held-out patients. They can
    refuse it; nothing is chosen by them, and training sees no one else of these patients.

    Args:
        home: whose cohort.
        seed: of the members.
        name: of the registered model; default: the task's, which is the one that a server asks.
        service: the features; default: the task's service.
        only: the one variant to fit and register, such as ``logistic``; default: all, of which the first is registered.
        settings: of the registered variant: what :class:`RiskModel` or its learner calls them.

    Raises:
        TooFewEventsError: there are fewer patients with an event than folds.
        SettingError: there is no such service, variant or setting.
    """
    cohort = CohortStore(home)
    task, facts = cohort.task, cohort.facts
    if service is not None:
        task = dataclasses.replace(task, feature_service=_known("--service", service, SERVICES))
    name = name or task.name
    models = _chosen(variants(SERVICES[task.feature_service], hourly=task.index == "hourly", seed=seed), only, settings or {})
    with working("training frame through Feast"):
        frame = Store(home).training_frame(labelled_index(cohort, "train"), task.feature_service)
    augmented = _augmented(cohort, frame, task)
    registry = Registry(home)
    made_of = {
        "task": task.name,
        "source": facts.source,
        "simulated": facts.simulated,
        "feature_service": task.feature_service,
        "data_digest": digest(frame),
    }
    with registry.run(task.name, dataset=(facts.source, str(made_of["data_digest"]))) as run_id:
        out_of_fold = {}
        for variant, model in models.items():
            with working(f"fit {variant}"):
                out_of_fold[variant] = fit(model, frame, task, () if variant in AS_MEASURED else augmented)
            model.facts_ |= made_of
        default = next(iter(models))
        model = models[default]
        model.domain_ = domain_of_use(model, frame, augmented, seed)
        if reason := model.facts_.get("no_promise"):
            CONSOLE.print(f"  no alarm promise: {reason}", highlight=False)
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
            metrics={AUROC: _auroc(frame, out_of_fold[default])},
            tables=_references(cohort, frame, model, out_of_fold[default], seed),
        )
        with working("store models"):
            registry.log_models(models, frame.head(100))
        gates = [] if registry.has_champion(name) else _gates_of_a_first(cohort, registry, model)
    tags = {"simulated": str(facts.simulated).lower()}
    return _registered(registry, name, run_id, default, tags, [gate for gate in gates if not gate.passed])


class SettingError(VigilError):
    """What was asked for is not there."""


def _known(option: str, asked: str, among: Iterable[str]) -> str:
    """A name that is one of those there are; of another the nearest is named."""
    names = list(among)
    if asked not in names:
        near = difflib.get_close_matches(asked, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(names)}"
        raise SettingError(f"{option} {asked}: there is none; {hint}")
    return asked


def _chosen(models: dict[str, RiskModel], only: str | None, settings: Mapping[str, Any]) -> dict[str, RiskModel]:
    """Those to fit; the first of them, which is registered, with settings of its own."""
    if only is not None:
        models = {_known("--only", only, models): models[only]}
    registered = next(iter(models.values()))
    names = {name.rpartition("__")[2]: name for name in sorted(registered.get_params(), reverse=True)}
    registered.set_params(**{names[_known("--set", name, names)]: value for name, value in settings.items()})
    return models


def digest(frame: pd.DataFrame) -> str:
    """A fingerprint of a training frame: its columns and all its values."""
    hashed = hashlib.blake2b(",".join(frame.columns).encode(), digest_size=16)
    hashed.update(pd.util.hash_pandas_object(frame["subject_id"], index=False).to_numpy().tobytes())
    for column in frame.columns.drop("subject_id"):
        values = frame[column]
        hashed.update(np.ascontiguousarray(values.astype("int64") if values.dtype.kind == "M" else values).tobytes())
    return hashed.hexdigest()


def fit(model: RiskModel, frame: pd.DataFrame, task: RiskTask, augmented: Sequence[Augmented] = ()) -> NDArray[np.float64]:
    """Cross-fit a model, and set its thresholds and its promise on the risks of patients its members had not seen.

    Args:
        model: unfitted.
        frame: ``subject_id, index_time, onset, onset_known, label`` (NaN: left out of learning) and the model's features.
        task: what the labels mean.
        augmented: rows of the frame as they might have been known in other ways, to learn from too.

    Returns:
        The out-of-fold risks, shape (n_rows,).
    """
    risk = model.cross_fit(frame, frame["label"], frame["subject_id"], augmented)
    if task.index == "end":  # asked once: nothing sounds, so a high risk is where sensitivity and precision meet
        known = frame["label"].notna().to_numpy()
        label = frame["label"].to_numpy(np.float64)[known]
        model.thresholds_ = {"high": event1_threshold(label, risk[known]), "medium": float(label.mean())}
        return risk
    net = net_of(frame) if "news2" in frame else {}
    watch = Watch.of(frame[LABELLED].assign(probability=risk, **net))
    model.certificate_ = certify(watch, task.promise)
    allowed = task.promise.alarms_per_patient_day
    if model.certificate_ is None and (spent := spent_by_net(watch, allowed)):
        model.facts_["no_promise"] = spent
    high = model.certificate_.threshold if model.certificate_ else threshold_at_budget(watch, allowed)
    model.thresholds_ = {"high": high, "medium": medium_threshold(watch, high)}
    return risk


def medium_threshold(watch: Watch, high: float) -> float:
    """Return the probability from which a risk asks for a look, :data:`LOOK` times as often as the model alone sounds."""
    alone = watch.without_net()
    return threshold_at_budget(alone, LOOK * float(alone.fired(high).sum()) / alone.patient_days)


def domain_of_use(model: RiskModel, frame: pd.DataFrame, augmented: Sequence[Augmented], seed: int) -> DomainOfUse:
    """The domain of use of all ways in which training patients were known.

    By rows as measured alone a first set would be unusual, and so would a patient without one of the signals.
    """
    columns = columns_read(frame.head(0)[model.features])
    rows = [frame[columns], *(way.features[columns] for way in augmented)]
    subjects = [frame["subject_id"], *(frame["subject_id"].take(way.rows) for way in augmented)]
    return DomainOfUse.fit(pd.concat(rows, ignore_index=True), pd.concat(subjects, ignore_index=True), seed=seed)


def _gates_of_a_first(cohort: CohortStore, registry: Registry, model: RiskModel) -> list[Gate]:
    """The gates of behaviour, kept with the run before anything is crowned."""
    with working("behaviour of a first version"):
        gates = behaviour(behaviour_of(cohort, model))
    registry.log(dictionaries={"first_version.json": {"gates": [asdict(gate) for gate in gates]}})
    return gates


def _registered(
    registry: Registry, name: str, run_id: str, default: str, tags: dict[str, str], shut: Sequence[Gate]
) -> Trained:
    """Register the default model of a run; gates that are shut keep a first version from being champion."""
    if shut:
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        tags = {**tags, "refused_at": at, "refused_by": ", ".join(gate.name for gate in shut)}
    elif not registry.has_champion(name):
        tags = {**tags, "ungated": "first version: of the gates it passed those of behaviour alone, beside no champion"}
    version, alias = registry.register(run_id, default, name, tags, may_be_champion=not shut)
    if not shut:
        return Trained(name, version, alias, run_id)
    refused = (
        f"version {version} of {name} is challenger and there is no champion, {refusal(shut)}; until a version passes (vigil "
        "promote), the server gives NEWS2"
    )
    return Trained(name, version, alias, run_id, refused)


def _augmented(cohort: CohortStore, frame: pd.DataFrame, task: RiskTask) -> tuple[Augmented, ...]:
    """The rows of a training frame as they might have been known in other ways: of no past, so Feast never holds them."""
    rows = frame[[*KEYS, "label"]].assign(row=np.arange(len(frame)))
    share, found = share_of_quiet_rows(float((frame["label"] == 0).sum())), []
    for part in track(range(cohort.parts()), "changed habits and cut records", cohort.parts()):
        index = rows.merge(cohort.read_part("stays", part), on="subject_id", validate="m:1")
        observations = cohort.read_part("observations", part)
        known = observations["subject_id"].isin(index["subject_id"])
        found.append(augment(observations[known], index, SERVICES[task.feature_service], quiet_share=share))
    return joined(found)


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
            READING_REFERENCE: reading_reference(map(cohort.received, range(cohort.parts())), patients),
        }
