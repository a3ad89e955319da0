"""The drift job of a home: the prediction log against the reference kept with the champion's training run."""

from pathlib import Path

import pandas as pd

from models.registry import Registry
from pipelines.cohort_store import CohortStore
from pipelines.drift.report import PREDICTION, Drift, drift_report
from pipelines.progress import working
from pipelines.train import REFERENCE
from serving.prediction_log import PredictionLog


def drift(home: Path, since: pd.Timestamp | None = None) -> Drift:
    """Compare what the champion predicted (since a time, or ever) with its reference; reports go to ``HOME/reports``.

    Raises:
        NoModelError: there is no champion.
        NotEnoughPredictionsError: it has predicted too little.
    """
    facts, registry = CohortStore(home).facts, Registry(home)
    champion = registry.load(facts.task)
    columns = [*champion.model.features, PREDICTION]
    reference = registry.table(champion.run_id, REFERENCE)
    logged = PredictionLog(home).read(
        model_name=champion.name, model_version=champion.version, features=champion.model.features, since=since
    )
    # A patient asked for twice in an hour is one row; readings sent along with a request are no ward of ours, and
    # who is asked for often is in the journal often.
    logged = logged[logged["origin"].isin(["online_store", "rescorer"])].drop_duplicates(
        ["patient_id", "index_time"], keep="last"
    )
    reports = home / "reports"
    reports.mkdir(exist_ok=True)
    origin = "Simulated ward: not clinical evidence." if facts.simulated else f"Source: {facts.source}."
    note = f"{origin} Model {champion.name} version {champion.version}."
    with working("drift report"):
        return drift_report(reference[columns], logged[columns], reports, note=note)
