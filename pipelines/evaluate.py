"""Evaluate: a registered model and its baselines on the held-out patients, which no training job reads."""

from pathlib import Path
from typing import Final

import pandas as pd

from features.store.client import Store
from models.evaluation import evaluate as metrics_of
from models.evaluation.plots import overview
from models.registry import Registry
from pipelines.cohort_store import CohortStore
from pipelines.progress import track, working
from pipelines.results import write_json
from pipelines.train import SEED, labelled_index

REPORT: Final = "evaluation"  # HOME/reports/evaluation.json and .png

Metrics = dict[str, dict[str, float]]


def evaluate(home: Path, version: str | None = None) -> Metrics:
    """Judge a version (default: the champion) and the baselines of its run; returns model -> metric -> value.

    Writes ``HOME/reports/evaluation.json`` and ``.png`` and logs both to the model's run.
    """
    cohort, registry = CohortStore(home), Registry(home)
    registered = registry.load(cohort.task.name, version)
    models = registry.load_run_models(registered.run_id)
    with working("held-out frame through Feast"):
        frame = Store(home).training_frame(labelled_index(cohort, "held_out"), registered.feature_service)
    metrics: Metrics = {}
    scored: dict[str, pd.DataFrame] = {}
    for name, model in track(models.items(), "evaluate", len(models)):
        columns = ["subject_id", "index_time", "onset", "onset_known", "label"]
        scored[name] = frame[columns].assign(probability=model.risk(frame))
        metrics[name] = metrics_of(scored[name], model.thresholds_["high"], seed=SEED)

    facts = cohort.facts
    reports = home / "reports"
    reports.mkdir(exist_ok=True)
    origin = "Simulated ward, no clinical evidence" if facts.simulated else facts.source
    figure = overview(scored, metrics, title=f"{origin}: held-out patients")
    figure.savefig(reports / f"{REPORT}.png", dpi=120)
    result = {"source": facts.source, "simulated": facts.simulated, "version": registered.version, "models": metrics}
    write_json(reports / f"{REPORT}.json", result)
    with registry.run(cohort.task.name, registered.run_id):
        registry.log(
            metrics={f"{name}.{metric}": value for name, values in metrics.items() for metric, value in values.items()},
            dictionaries={f"{REPORT}.json": result},
            figures={f"{REPORT}.png": figure},
        )
    return metrics
