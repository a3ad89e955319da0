"""Evaluate: a registered model and its baselines on the held-out patients, which no training job reads.

What is judged, and how, is :mod:`models.evaluation`'s business; here it is put together, written and logged.
"""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from features.batch import build_features
from features.store.client import Store
from models.assessment import net_of
from models.cohort import HELD_OUT_SHARE, LABELLED, by_patient, index_times
from models.evaluation.comparison import SECTIONS, Candidate, HeldOut
from models.evaluation.robustness import effect, losses, sample
from models.evaluation.subgroups import groups
from models.registry import RegisteredModel, Registry
from models.reporting.figures import curves
from models.reporting.model_card import card
from models.reporting.report import report
from models.reporting.style import styled
from models.seeds import SEED
from models.statistics.bootstrap import RESAMPLES
from models.training.risk_model import RiskModel
from models.version_history import made
from pipelines.cohort_store import CohortStore
from pipelines.jobs.behaviour import arrivals_by, behaviour_of, domain_of, readings_of, views_read
from pipelines.jobs.train import labelled_index
from pipelines.progress import track, working
from pipelines.results import write_json

REPORT: Final = "evaluation"  # HOME/reports/evaluation.html, .json and .png
CARD: Final = "model_card.md"  # beside them

LEADING: Final = (
    "auroc", "auroc_low", "auroc_high", "auprc", "prevalence", "calibration_slope", "event_recall", "alarm_precision",
    "alarms_per_patient_day", "lead_time_hours",
)  # fmt: skip

Metrics = dict[str, dict[str, float]]


def evaluate(home: Path, version: str | None = None, name: str | None = None) -> Metrics:
    """Judge a version (default: the champion) of a model (default: the task's) and the baselines of its run.

    Writes ``HOME/reports/evaluation.html``, ``.json`` and ``.png`` and the model card, and logs all to the model's run.

    Returns:
        Model -> metric -> value.
    """
    cohort, registry = CohortStore(home), Registry(home)
    registered = registry.load(name or cohort.task.name, version)
    models = registry.load_run_models(registered.run_id)
    with working("held-out frame through Feast"):
        frame = Store(home).training_frame(labelled_index(cohort, "held_out"), registered.feature_service)
    candidates = {name: candidate(model, frame) for name, model in track(models.items(), "score", len(models))}
    held_out = judged(cohort, frame, candidates)
    result: dict[str, Any] = _made(cohort, registered, models)
    for section in track(SECTIONS, "evaluate", len(SECTIONS)):
        result |= section(held_out)
    with working("robustness to losing readings"):
        result["robustness"] = _robustness(cohort, frame, held_out, models[held_out.default])
    with working("behaviour and domain of use"):
        result |= _examined(cohort, registered.model, frame, held_out)

    reports = home / "reports"
    reports.mkdir(exist_ok=True)
    write_json(reports / f"{REPORT}.json", result)
    plain = json.loads((reports / f"{REPORT}.json").read_text())  # the page shows what the file holds, and nothing else
    with working("report"):
        page = report(plain)
        (reports / f"{REPORT}.html").write_text(page, encoding="utf-8")
    summary = card(plain, made(registry, registered))
    (reports / CARD).write_text(summary, encoding="utf-8")
    origin = "simulated ward, no clinical evidence" if cohort.facts.simulated else cohort.facts.source
    with styled():
        figure = curves(plain)
        figure.suptitle(f"Held-out patients: {origin}", fontsize=9)
        figure.savefig(reports / f"{REPORT}.png", dpi=120)
    metrics: Metrics = result["models"]
    with registry.run(cohort.task.name, registered.run_id):
        registry.log(
            metrics=_leading(metrics),
            dictionaries={f"{REPORT}.json": plain},
            figures={f"{REPORT}.png": figure},
            texts={f"{REPORT}.html": page, CARD: summary},
        )
    return metrics


def _leading(metrics: Metrics) -> dict[str, float]:
    """What one compares runs by; the rest is in the evaluation that is kept with the run."""
    default, *others = metrics
    found = {f"{default}.{metric}": metrics[default][metric] for metric in LEADING if metric in metrics[default]}
    return found | {f"{name}.auroc": metrics[name]["auroc"] for name in others}


def judged(cohort: CohortStore, frame: pd.DataFrame, candidates: dict[str, Candidate]) -> HeldOut:
    """Candidates and the rows they are judged on. Numbers take the place of identifiers, which go no further than this.

    A number says which stay is whose, as the identifier did (:func:`models.cohort.patient_of`).
    """
    stay, named = pd.factorize(frame["subject_id"])
    patient, _ = by_patient(named)
    numbers = np.array([f"{patient[number]}~{number}" for number in range(len(named))], dtype=object)
    stays = frame[["subject_id", "index_time"]].merge(cohort.read("stays"), on="subject_id", how="left", validate="m:1")
    return HeldOut(
        rows=frame[LABELLED].assign(subject_id=numbers[stay]),
        candidates=candidates,
        news2=frame["news2"].to_numpy(np.float64) if "news2" in frame else None,
        net=net_of(frame) if "news2" in frame else {},
        groups=groups(stays),
        seed=SEED,
    )


def candidate(model: RiskModel, frame: pd.DataFrame) -> Candidate:
    """A model's answers on rows of its features."""
    risk = model.risk(frame)
    return Candidate(
        risk, model.thresholds_["high"], model.certificate_, *model.range_of(risk), medium=model.thresholds_["medium"]
    )


def _made(cohort: CohortStore, registered: RegisteredModel, models: dict[str, RiskModel]) -> dict[str, Any]:
    """What was judged, and how it came to be."""
    facts, task = cohort.facts, cohort.task
    return {
        "source": facts.source,
        "simulated": facts.simulated,
        "version": registered.version,
        "task": {"name": task.name, "outcome": task.outcome, "horizon_hours": task.horizon.total_seconds() / 3600},
        "made": {
            "data_digest": registered.model.facts_.get("data_digest"),
            "no_promise": registered.model.facts_.get("no_promise"),
            "feature_service": registered.feature_service,
            "features": {name: len(model.features) for name, model in models.items()},
            "held_out_share": HELD_OUT_SHARE,
            "seed": SEED,
            "resamples": RESAMPLES,
            "cohort": {"stays": facts.subjects, "events": facts.events, "readings": facts.observations},
        },
    }


def _robustness(cohort: CohortStore, frame: pd.DataFrame, held_out: HeldOut, model: RiskModel) -> dict[str, Any]:
    """The default model on a sample of the held-out patients, some of whose readings were lost."""
    patients = sample(frame["subject_id"].unique(), cohort.facts.observations / cohort.facts.subjects)
    chosen = frame["subject_id"].isin(patients)
    rows = held_out.frame(held_out.default)[chosen].reset_index(drop=True)
    if rows["label"].nunique() < 2:
        return {"patients": len(patients), "losses": []}
    stays = cohort.read("stays")
    index = index_times(stays[stays["subject_id"].isin(patients)], cohort.task.index)
    observations = readings_of(cohort, patients)
    threshold = model.thresholds_["high"]
    found = []
    for loss in losses(observations["signal"].unique()):
        features = build_features(observations[loss.kept(observations, SEED)], index, views_read(model))
        assert features["index_time"].equals(rows["index_time"])  # both are by subject and time
        changed = effect(rows, model.risk(features), threshold, seed=SEED, net=net_of(features))
        found.append({"what": loss.what, **changed})
    return {"patients": len(patients), "losses": found}


def _examined(cohort: CohortStore, model: RiskModel, frame: pd.DataFrame, held_out: HeldOut) -> dict[str, Any]:
    """What the registered model answers for vignettes, changed patients and arrivals, and where it may speak."""
    risk, numbers = held_out.candidates[held_out.default].risk, held_out.rows["subject_id"]
    return {
        "behaviour": {**behaviour_of(cohort, model), "arrivals": arrivals_by(model, seed=SEED)},
        "domain": domain_of(model, frame, risk, numbers, seed=SEED),
    }
