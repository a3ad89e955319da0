"""Train the model and its baselines by cross-fitting on the training patients; log them to MLflow and register one."""

import dataclasses
import difflib
import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.features.batch import KEYS
from vigil.features.catalogue import SERVICES
from vigil.features.errors import VigilError
from vigil.models.alarms.guarantee import explain_no_guarantee, find_guarantee
from vigil.models.alarms.timeline import AlarmTimeline, threshold_at_budget
from vigil.models.assessment import safety_net_scores
from vigil.models.cohort import HELD_OUT_SHARE, LABEL_COLUMNS, Split, assign_splits, index_times, label_index_times
from vigil.models.domain import DomainOfUse, columns_read
from vigil.models.evaluation.challenges import choose_event1_threshold
from vigil.models.evaluation.discrimination import measure_discrimination
from vigil.models.monitoring.reference import AUROC, JUDGED_REFERENCE, REFERENCE, sample_patient_days, select_judged_hours
from vigil.models.monitoring.signal_reference import READING_REFERENCE, build_reading_reference
from vigil.models.promotion.gates import Gate, check_behaviour, describe_refusal
from vigil.models.registry import Registry
from vigil.models.search.space import apply_settings, setting_names
from vigil.models.seeds import SEED
from vigil.models.tasks import RiskTask
from vigil.models.training.candidate_models import AS_MEASURED, candidates
from vigil.models.training.measurement_augmentation import Augmented, augment, join_parts, share_of_negatives
from vigil.models.training.members import map_side_by_side, release_memory
from vigil.models.training.risk_model import RiskModel
from vigil.pipelines.cohort_store import CohortStore
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.behaviour import examine_held_out_behaviour
from vigil.pipelines.jobs.proposal import Proposal
from vigil.pipelines.progress import CONSOLE, timed_step, track

# The medium band asks staff for a look, the high band for action. Our choice: looks may be this many times as frequent.
LOOKS_PER_ALARM: Final = 3


@dataclass(frozen=True)
class Trained:
    """The version that a training job registered.

    Attributes:
        model_name, version, alias: as registered.
        run_id: of the MLflow run.
        refused: why a first version is not champion, in one line; None: it is, or there was a champion already.
    """

    model_name: str
    version: str
    alias: str
    run_id: str
    refused: str | None = None


class SettingError(VigilError):
    """A service, variant or setting that does not exist."""


def read_labelled_index(cohort: CohortStore, wanted: Split) -> pd.DataFrame:
    """Return the labelled index times of a split's patients: ``subject_id, index_time, onset, onset_known, label``."""
    labelled = label_index_times(index_times(cohort.read("stays"), cohort.task.index), cohort.read("outcomes"), cohort.task)
    return labelled.loc[assign_splits(labelled["subject_id"]) == wanted, LABEL_COLUMNS].reset_index(drop=True)


def train(
    home: Home,
    seed: int = SEED,
    *,
    name: str | None = None,
    service: str | None = None,
    only: str | None = None,
    settings: Mapping[str, Any] | None = None,
    proposal: Proposal | None = None,
) -> Trained:
    """Fit the variants on the training patients, set thresholds by their out-of-fold risks, and register the first variant.

    A first version becomes champion if it passes the gates of behaviour. These change observations of held-out patients. They
    can refuse the version, but nothing is chosen by them. Training reads nothing else of held-out patients.

    Args:
        home: with a cohort and its features.
        seed: of the members.
        name: of the registered model; default: the task's, which the server asks.
        service: feature service to learn from; default: the task's.
        only: the one variant to fit and register, such as ``logistic``; default: all, of which the first is registered.
        settings: of the registered variant, by the parameter names of :class:`RiskModel` or its learner.
        proposal: settings that a search found; ``settings`` come first.

    Raises:
        TooFewEventsError: there are fewer patients with an event than folds.
        SettingError: there is no such service, variant or setting.
        ProposalError: the proposal is for another feature service.
    """
    cohort = home.cohort
    task, facts = choose_task(cohort, service), cohort.facts
    proposal = proposal or Proposal({})
    proposal.require_service(task.feature_service)
    settings = {**proposal.parameters, **(settings or {})}
    name = name or task.name
    home.record_use("services", [task.feature_service])
    models = _select(candidates(SERVICES[task.feature_service], hourly=task.index == "hourly", seed=seed), only, settings)
    with timed_step("training frame through Feast"):
        frame = home.features.read_training_frame(read_labelled_index(cohort, "train"), task.feature_service)
    augmented = augment_frame(cohort, frame, task)
    release_memory()
    registry = home.registry
    provenance = {
        "task": task.name,
        "index": task.index,
        "source": facts.source,
        "simulated": facts.simulated,
        "feature_service": task.feature_service,
        "data_digest": digest(frame),
    }
    with registry.run(task.name, dataset=(facts.source, str(provenance["data_digest"])), what=next(iter(models))) as run_id:
        out_of_fold = fit_all(models, frame, task, augmented)
        for model in models.values():
            model.metadata_ |= provenance
        default = next(iter(models))
        model = models[default]
        model.domain_ = fit_domain_of_use(model, frame, augmented, seed)
        del augmented  # a gigabyte of a large cohort, which the references below need
        release_memory()
        if reason := model.metadata_.get("no_promise"):
            CONSOLE.print(f"  no alarm guarantee: {reason}", highlight=False)
        registry.log(
            params={
                **provenance,
                "horizon_hours": task.horizon.total_seconds() / 3600,
                "held_out_share": HELD_OUT_SHARE,
                "train_patients": frame["subject_id"].nunique(),
                "train_events": frame.loc[frame["label"] == 1, "subject_id"].nunique(),
                "seed": seed,
                "folds": model.folds,
                "repeats": model.repeats,
                "most_negatives": model.max_negatives,
                **model.settings,
            },
            tags={
                "source": facts.source,
                "simulated": str(facts.simulated).lower(),
                **({"proposed_by": proposal.run_id} if proposal.run_id else {}),
            },
            dictionaries={
                "features.json": {"features": model.features},
                "thresholds.json": model.thresholds_,
                "certificate.json": asdict(model.certificate_) if model.certificate_ else {},
            },
            metrics={AUROC: _auroc(frame, out_of_fold[default])},
            tables=_monitoring_references(cohort, frame, model, out_of_fold[default], seed),
        )
        with timed_step("store models"):
            registry.log_models(models, frame.head(100))
        gates = [] if registry.has_champion(name) else _examine_first_version(cohort, registry, model)
    tags = {"simulated": str(facts.simulated).lower()}
    return _register(registry, name, run_id, default, tags, [gate for gate in gates if not gate.passed])


def choose_task(cohort: CohortStore, service: str | None) -> RiskTask:
    """Return the cohort's task, with another feature service if one is named.

    Raises:
        SettingError: there is no such service.
    """
    if service is None:
        return cohort.task
    return dataclasses.replace(cohort.task, feature_service=_require_known("--service", service, SERVICES))


def _require_known(option: str, name: str, known: Iterable[str]) -> str:
    """Return a name that is known; the error for another one suggests the nearest."""
    names = list(known)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(names)}"
        raise SettingError(f"{option} {name}: there is none; {hint}")
    return name


def _select(models: dict[str, RiskModel], only: str | None, settings: Mapping[str, Any]) -> dict[str, RiskModel]:
    """Return the variants to fit. The first one will be registered, and takes the settings."""
    if only is not None:
        models = {_require_known("--only", only, models): models[only]}
    registered = next(iter(models.values()))
    apply_settings(
        registered, {_require_known("--set", name, setting_names(registered)): value for name, value in settings.items()}
    )
    return models


def augment_frame(cohort: CohortStore, frame: pd.DataFrame, task: RiskTask) -> tuple[Augmented, ...]:
    """Return the rows of a training frame with changed habits and truncated records. They never happened: Feast has none."""
    rows = frame[[*KEYS, "label"]].assign(row=np.arange(len(frame)))
    negative_share, partitions = share_of_negatives(float((frame["label"] == 0).sum())), range(cohort.count_partitions())

    def augment_partition(part: int) -> tuple[Augmented, ...]:
        index = rows.merge(cohort.read_partition("stays", part), on="subject_id", validate="m:1")
        observations = cohort.read_partition("observations", part)
        is_trained_on = observations["subject_id"].isin(index["subject_id"])
        return augment(observations[is_trained_on], index, SERVICES[task.feature_service], negative_share=negative_share)

    parts = track(map_side_by_side(augment_partition, partitions), "changed habits and cut records", len(partitions))
    return join_parts(parts)


def digest(frame: pd.DataFrame) -> str:
    """Return a fingerprint of a training frame: of its columns and all its values."""
    hashed = hashlib.blake2b(",".join(frame.columns).encode(), digest_size=16)
    hashed.update(pd.util.hash_pandas_object(frame["subject_id"], index=False).to_numpy().tobytes())
    for column in frame.columns.drop("subject_id"):
        values = frame[column]
        hashed.update(np.ascontiguousarray(values.astype("int64") if values.dtype.kind == "M" else values).tobytes())
    return hashed.hexdigest()


def fit_all(
    models: Mapping[str, RiskModel], frame: pd.DataFrame, task: RiskTask, augmented: Sequence[Augmented], title: str = "fit"
) -> dict[str, NDArray[np.float64]]:
    """Fit every variant (:func:`fit`), two cores busy to the end: while one sets its thresholds, another one learns.

    Returns:
        The out-of-fold risks of each variant.
    """

    def fit_one(variant: str) -> NDArray[np.float64]:
        started = time.monotonic()
        risk = fit(models[variant], frame, task, () if variant in AS_MEASURED else augmented)
        CONSOLE.print(f"  {title} {variant}: done in {time.monotonic() - started:.1f} s", highlight=False)
        return risk

    return dict(zip(models, track(map_side_by_side(fit_one, list(models)), title, len(models)), strict=True))


def fit(model: RiskModel, frame: pd.DataFrame, task: RiskTask, augmented: Sequence[Augmented] = ()) -> NDArray[np.float64]:
    """Cross-fit a model, and set its thresholds and its alarm guarantee by its out-of-fold risks.

    Args:
        model: not fitted yet.
        frame: ``subject_id, index_time, onset, onset_known, label`` (NaN: not learned from) and the model's features.
        task: what the labels mean, and what is promised.
        augmented: rows of the frame as recorded with changed habits or truncated; the model learns from them too.

    Returns:
        The out-of-fold risks, shape (n_rows,).
    """
    risk = model.cross_fit(frame, frame["label"], frame["subject_id"], augmented)
    if task.index == "end":  # one answer a stay and no alarms: high is where sensitivity and precision are equal
        is_labelled = frame["label"].notna().to_numpy()
        label = frame["label"].to_numpy(np.float64)[is_labelled]
        model.thresholds_ = {"high": choose_event1_threshold(label, risk[is_labelled]), "medium": float(label.mean())}
        return risk
    net = safety_net_scores(frame) if "news2" in frame else {}
    watch = AlarmTimeline.from_frame(frame[LABEL_COLUMNS].assign(probability=risk, **net))
    model.certificate_ = find_guarantee(watch, task.alarm_target)
    allowed = task.alarm_target.alarms_per_patient_day
    if model.certificate_ is None and (spent := explain_no_guarantee(watch, allowed)):
        model.metadata_["no_promise"] = spent
    high = model.certificate_.threshold if model.certificate_ else threshold_at_budget(watch, allowed)
    model.thresholds_ = {"high": high, "medium": medium_threshold(watch, high)}
    return risk


def medium_threshold(watch: AlarmTimeline, high: float) -> float:
    """Return the threshold of the medium band.

    Risks reach it :data:`LOOKS_PER_ALARM` times as often as the model alone sounds an alarm at the ``high`` threshold.
    """
    alone = watch.without_net()
    return threshold_at_budget(alone, LOOKS_PER_ALARM * float(alone.alarms_at(high).sum()) / alone.patient_days)


def fit_domain_of_use(model: RiskModel, frame: pd.DataFrame, augmented: Sequence[Augmented], seed: int) -> DomainOfUse:
    """Fit the domain of use on the rows as measured and on the augmented ones.

    Rows as measured alone would make a patient's first set of observations unusual, and a patient without one of the signals.
    """
    columns = columns_read(frame.head(0)[model.features])
    rows = [frame[columns], *(way.features[columns] for way in augmented)]
    subjects = [frame["subject_id"], *(frame["subject_id"].take(way.rows) for way in augmented)]
    return DomainOfUse.fit(pd.concat(rows, ignore_index=True), pd.concat(subjects, ignore_index=True), seed=seed)


def _examine_first_version(cohort: CohortStore, registry: Registry, model: RiskModel) -> list[Gate]:
    """Put a first version through the gates of behaviour, and log them before it can become champion."""
    with timed_step("behaviour of a first version"):
        gates = check_behaviour(examine_held_out_behaviour(cohort, model))
    registry.log(dictionaries={"first_version.json": {"gates": [asdict(gate) for gate in gates]}})
    return gates


def _register(
    registry: Registry, name: str, run_id: str, default: str, tags: dict[str, str], failed: Sequence[Gate]
) -> Trained:
    """Register the default model of a run; a first version that failed a gate does not become champion."""
    if failed:
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        tags = {**tags, "refused_at": at, "refused_by": ", ".join(gate.name for gate in failed)}
    elif not registry.has_champion(name):
        tags = {**tags, "ungated": "first version: it passed the gates of behaviour, and there was no champion to compare"}
    version, alias = registry.register(run_id, default, name, tags, may_be_champion=not failed)
    if not failed:
        return Trained(name, version, alias, run_id)
    refused = (
        f"version {version} of {name} is challenger and there is no champion, {describe_refusal(failed)}; until a version "
        "passes (vigil promote), the server gives NEWS2"
    )
    return Trained(name, version, alias, run_id, refused)


def _auroc(frame: pd.DataFrame, risk: NDArray[np.float64]) -> float:
    is_labelled = frame["label"].notna().to_numpy()
    return measure_discrimination(frame["label"].to_numpy(np.float64)[is_labelled], risk[is_labelled])["auroc"]


def _monitoring_references(
    cohort: CohortStore, frame: pd.DataFrame, model: RiskModel, risk: NDArray[np.float64], seed: int
) -> dict[str, pd.DataFrame]:
    """Return what drift will be measured against."""
    patients = pd.Index(frame["subject_id"].unique())
    with timed_step("drift reference"):
        return {
            REFERENCE: sample_patient_days(frame, model.features, risk, seed),
            JUDGED_REFERENCE: select_judged_hours(frame[["subject_id", "label"]].assign(probability=risk)),
            READING_REFERENCE: build_reading_reference(map(cohort.received, range(cohort.count_partitions())), patients),
        }
