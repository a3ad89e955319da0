"""Evaluate a registered model and its baselines on the held-out patients, which no training job reads.

:mod:`vigil.models.evaluation` computes the figures. This job collects them, writes the report and logs it.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from vigil.features.batch import build_features
from vigil.models.assessment import safety_net_scores
from vigil.models.cohort import HELD_OUT_SHARE, LABEL_COLUMNS, index_times, number_patients
from vigil.models.evaluation.comparison import SECTIONS, Candidate, EvaluationSet
from vigil.models.evaluation.explanations import explain_features, explain_signals
from vigil.models.evaluation.robustness import Loss, list_losses, measure_loss, sample_subjects
from vigil.models.evaluation.subgroups import assign_groups
from vigil.models.registry import RegisteredModel
from vigil.models.reporting.figures import draw_curves
from vigil.models.reporting.model_card import render_model_card
from vigil.models.reporting.report import render_report
from vigil.models.reporting.style import report_style
from vigil.models.seeds import SEED
from vigil.models.statistics.bootstrap import RESAMPLES
from vigil.models.tasks import describe_task
from vigil.models.training.members import map_side_by_side
from vigil.models.training.risk_model import RiskModel
from vigil.models.version_history import EVALUATION, describe_training
from vigil.pipelines.cohort_store import CohortStore
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.behaviour import (
    examine_arrivals,
    examine_domain,
    examine_held_out_behaviour,
    explain_vignette,
    read_observations,
    required_views,
)
from vigil.pipelines.jobs.fairness import Fairness, describe_fairness, examine_fairness
from vigil.pipelines.jobs.train import digest, read_labelled_index
from vigil.pipelines.progress import timed_step, track
from vigil.pipelines.results import write_json

REPORT: Final = "evaluation"  # HOME/reports/evaluation.html, .json and .png
CARD: Final = "model_card.md"  # in the same folder

# Logged as metrics of the run, so that MLflow can compare runs by them.
LOGGED_METRICS: Final = (
    "auroc", "auroc_low", "auroc_high", "auprc", "prevalence", "calibration_slope", "event_recall", "alarm_precision",
    "alarms_per_patient_day", "lead_time_hours",
)  # fmt: skip

Metrics = dict[str, dict[str, float]]


def evaluate(
    home: Home,
    version: str | None = None,
    name: str | None = None,
    *,
    by: Sequence[str] = (),
    attributes: pd.DataFrame | None = None,
) -> Metrics:
    """Evaluate a model version and the baselines of its run on the held-out patients.

    Writes ``HOME/reports/evaluation.html``, ``.json`` and ``.png`` and the model card, and logs all of them to the model's
    run.

    Args:
        home: with a cohort, its features and the model.
        version: of the model; default: the champion.
        name: of the registered model; default: the task's.
        by, attributes: the groups by which fairness is examined (:func:`vigil.pipelines.jobs.fairness.examine_fairness`).

    Returns:
        Model -> metric -> value.

    Raises:
        NoModelError: there is no such version.
        AttributeNameError: there is no such attribute.
    """
    cohort = home.cohort
    task, registry = cohort.task, home.registry
    registered = registry.load(name or task.name, version)
    models = registry.load_run_models(registered.run_id)
    frame = read_held_out_rows(home, registered)
    stays = stays_of_rows(cohort, frame)
    default, *others = models
    candidates = {default: score_candidate(models[default], frame)}
    with timed_step("fairness"):  # first, since a name of an attribute may be wrong
        fairness = examine_fairness(home, stays, evaluation_set(stays, frame, candidates), by, attributes)
    candidates |= {name: score_candidate(models[name], frame) for name in track(others, "score", len(others))}
    held_out = evaluation_set(stays, frame, candidates)
    result: dict[str, Any] = _provenance(cohort, registered, models, digest(frame[LABEL_COLUMNS]))
    for section in track(map_side_by_side(lambda describe: describe(held_out), SECTIONS), "evaluate", len(SECTIONS)):
        result |= section
    result["robustness"] = _examine_robustness(cohort, frame, held_out, models[held_out.default])
    with timed_step("explanations"):
        result["explanations"] = explain_signals(registered.model, frame, SEED)
        result["feature_explanations"] = explain_features(registered.model, frame, SEED)
        result["example"] = explain_vignette(registered.model)
    result["fairness"] = describe_fairness(fairness, held_out.candidates[default].threshold)
    with timed_step("behaviour and domain of use"):
        result |= _examine_behaviour_and_domain(cohort, registered.model, frame, held_out)

    home.reports.mkdir(exist_ok=True)
    write_json(home.reports / f"{REPORT}.json", result)
    written = json.loads((home.reports / f"{REPORT}.json").read_text())  # the page shows what the file holds, nothing else
    with timed_step("report"):
        page = render_report(written)
        (home.reports / f"{REPORT}.html").write_text(page, encoding="utf-8")
    model_card = render_model_card(written, describe_training(registry, registered))
    (home.reports / CARD).write_text(model_card, encoding="utf-8")
    origin = "simulated ward, no clinical evidence" if cohort.facts.simulated else cohort.facts.source
    with report_style():
        figure = draw_curves(written)
        figure.suptitle(f"Held-out patients: {origin}", fontsize=9)
        figure.savefig(home.reports / f"{REPORT}.png", dpi=120)
    metrics: Metrics = result["models"]
    judged_on = (cohort.facts.source, result["made"]["held_out_digest"])
    with registry.run(task.name, registered.run_id, judged_on, context="evaluation"):
        registry.log(
            metrics=_logged_metrics(metrics),
            dictionaries={EVALUATION: written},
            figures={f"{REPORT}.png": figure},
            texts={f"{REPORT}.html": page, CARD: model_card},
        )
    return metrics


def examine_version_fairness(
    home: Home, by: Sequence[str] = (), attributes: pd.DataFrame | None = None, version: str | None = None
) -> Fairness:
    """Examine how one version treats groups of held-out patients; nothing is written.

    Args:
        home, version: as :func:`evaluate` takes them.
        by, attributes: as :func:`vigil.pipelines.jobs.fairness.examine_fairness` takes them.

    Raises:
        NoModelError: there is no such version.
        AttributeNameError: there is no such attribute.
    """
    registered = home.existing_registry().load(home.cohort.task.name, version)
    frame = read_held_out_rows(home, registered)
    stays = stays_of_rows(home.cohort, frame)
    held_out = evaluation_set(stays, frame, {"model": score_candidate(registered.model, frame)})
    return examine_fairness(home, stays, held_out, by, attributes)


def read_held_out_rows(home: Home, registered: RegisteredModel) -> pd.DataFrame:
    """Read the labelled rows of the held-out patients with the features of a version."""
    with timed_step("held-out frame through Feast"):
        return home.features.read_training_frame(read_labelled_index(home.cohort, "held_out"), registered.feature_service)


def _logged_metrics(metrics: Metrics) -> dict[str, float]:
    """Return the metrics that runs are compared by; the evaluation stored with the run holds the rest."""
    default, *others = metrics
    leading = {f"{default}.{metric}": metrics[default][metric] for metric in LOGGED_METRICS if metric in metrics[default]}
    return leading | {f"{name}.auroc": metrics[name]["auroc"] for name in others}


def stays_of_rows(cohort: CohortStore, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the stay of each row, with its index time."""
    return frame[["subject_id", "index_time"]].merge(cohort.read("stays"), on="subject_id", how="left", validate="m:1")


def evaluation_set(stays: pd.DataFrame, frame: pd.DataFrame, candidates: dict[str, Candidate]) -> EvaluationSet:
    """Return candidates with the rows they are judged on; ``stays`` are those of the rows (:func:`stays_of_rows`).

    Numbers take the place of subject keys, so no report can hold one. The numbers still show which stays belong to one
    patient, as the keys did (:func:`vigil.models.cohort.patient_of`).
    """
    stay, subject_ids = pd.factorize(frame["subject_id"])
    patient, _ = number_patients(subject_ids)
    numbers = np.array([f"{patient[number]}~{number}" for number in range(len(subject_ids))], dtype=object)
    return EvaluationSet(
        rows=frame[LABEL_COLUMNS].assign(subject_id=numbers[stay]),
        candidates=candidates,
        news2=frame["news2"].to_numpy(np.float64) if "news2" in frame else None,
        net=safety_net_scores(frame) if "news2" in frame else {},
        groups=assign_groups(stays),
        seed=SEED,
    )


def score_candidate(model: RiskModel, frame: pd.DataFrame) -> Candidate:
    """Return a model's risks and thresholds on rows with its features."""
    risk = model.risk(frame)
    return Candidate(
        risk, model.thresholds_["high"], model.certificate_, *model.range_of(risk), medium=model.thresholds_["medium"]
    )


def _provenance(
    cohort: CohortStore, registered: RegisteredModel, models: dict[str, RiskModel], held_out_digest: str
) -> dict[str, Any]:
    """Return what is evaluated, how it was made, and on which rows it is judged."""
    facts, task = cohort.facts, cohort.task
    return {
        "source": facts.source,
        "simulated": facts.simulated,
        "version": registered.version,
        "task": describe_task(task),
        "made": {
            "data_digest": registered.model.metadata_.get("data_digest"),
            "held_out_digest": held_out_digest,
            "no_promise": registered.model.metadata_.get("no_promise"),
            "feature_service": registered.feature_service,
            "features": {name: len(model.features) for name, model in models.items()},
            "held_out_share": HELD_OUT_SHARE,
            "seed": SEED,
            "resamples": RESAMPLES,
            "cohort": {"stays": facts.subjects, "events": facts.events, "readings": facts.observations},
        },
    }


def _examine_robustness(cohort: CohortStore, frame: pd.DataFrame, held_out: EvaluationSet, model: RiskModel) -> dict[str, Any]:
    """Evaluate the default model on a sample of the held-out patients, with some of their observations removed."""
    patients = sample_subjects(frame["subject_id"].unique(), cohort.facts.observations / cohort.facts.subjects)
    is_sampled = frame["subject_id"].isin(patients)
    rows = held_out.frame(held_out.default)[is_sampled].reset_index(drop=True)
    if rows["label"].nunique() < 2:
        return {"patients": len(patients), "losses": []}
    stays = cohort.read("stays")
    index = index_times(stays[stays["subject_id"].isin(patients)], cohort.task.index)
    observations = read_observations(cohort, patients)
    sampled = frame[is_sampled].reset_index(drop=True)
    threshold, net, views = model.thresholds_["high"], safety_net_scores(sampled), required_views(model)

    def measure(loss: Loss) -> dict[str, Any]:
        remains = loss.remaining(observations, SEED)
        losing = observations.loc[~remains, "subject_id"].unique()  # for all others, features and risk stay as they are
        is_changed = sampled["subject_id"].isin(losing).to_numpy()
        left = observations[remains & observations["subject_id"].isin(losing)]
        features = build_features(left, index[index["subject_id"].isin(losing)], views)
        assert (features["index_time"].array == sampled.loc[is_changed, "index_time"].array).all()  # sorted by subject and time
        risk = rows["probability"].to_numpy(np.float64, copy=True)
        risk[is_changed] = model.risk(features)
        changed_net = {name: scores.copy() for name, scores in net.items()}
        for name, scores in safety_net_scores(features).items():
            changed_net[name][is_changed] = scores
        return {"what": loss.what, **measure_loss(rows, risk, threshold, seed=SEED, net=changed_net)}

    losses = list_losses(observations["signal"].unique())
    effects = list(track(map_side_by_side(measure, losses), "robustness to losing readings", len(losses)))
    return {"patients": len(patients), "losses": effects}


def _examine_behaviour_and_domain(
    cohort: CohortStore, model: RiskModel, frame: pd.DataFrame, held_out: EvaluationSet
) -> dict[str, Any]:
    """Examine the registered model on vignettes, changed patients and arrivals, and its domain of use."""
    risk, subject_id = held_out.candidates[held_out.default].risk, held_out.rows["subject_id"]
    return {
        "behaviour": {**examine_held_out_behaviour(cohort, model), "arrivals": examine_arrivals(model, seed=SEED)},
        "domain": examine_domain(model, frame, risk, subject_id, seed=SEED),
    }
