"""Behaviour of a model of this home: clinical vignettes, changed patients, simulated arrivals, and its domain of use."""

from typing import Any, Final

import numpy as np
import pandas as pd

from features.batch import build_features
from features.catalogue import SAFETY_NET, of, views_of
from features.scores import NEWS2_HIGH
from models.assessment import Risk, assess
from models.behaviour.examination import examine_behaviour, outside_vignettes
from models.cohort import index_times, splits
from models.domain import DomainOfUse
from models.evaluation.domain import judged
from models.evaluation.robustness import sample
from models.training.risk_model import Float64, RiskModel
from pipelines.cohort_store import CohortStore
from pipelines.sources.simulated.arrivals import arrivals

# Ours: some 500 of so many are emergencies by NEWS2, so that a miss of one in a hundred is seen.
ARRIVALS: Final = 2_000


def behaviour_of(cohort: CohortStore, model: RiskModel) -> dict[str, Any]:
    """Examine a model on the vignettes and on a sample of the held-out patients, whose readings are changed on purpose.

    Returns:
        As :func:`models.behaviour.examination.examine_behaviour`.
    """
    stays = cohort.read("stays")
    stays = stays[splits(stays["subject_id"]) == "held_out"]
    patients = sample(stays["subject_id"], cohort.facts.observations / cohort.facts.subjects)
    index = index_times(stays[stays["subject_id"].isin(patients)], cohort.task.index)
    return examine_behaviour(
        lambda rows: assess(model, rows), model.risk, views_read(model), readings_of(cohort, patients), index
    )


def arrivals_by(model: RiskModel, *, seed: int, number: int = ARRIVALS) -> dict[str, int]:
    """Count what a model says of simulated patients at arrival whose NEWS2 asks for an emergency response.

    Args:
        model: with thresholds.
        seed: of the arrivals.
        number: of arrivals.

    Returns:
        ``arrivals``, and ``emergencies``: of these, with a NEWS2 of 7 or more by the chart. Of the emergencies
        ``low_by_model`` and ``without_alarm_by_model``, as the model alone would have it; ``low`` and ``without_alarm``, with
        the safety net; and ``outside``, beyond the domain of use.
    """
    observations, index = arrivals(number, seed)
    rows = build_features(observations, index, views_read(model))
    urgent = rows[rows["news2"] >= NEWS2_HIGH]
    by_model = [model.band(p) for p in model.risk(urgent).tolist()] if len(urgent) else []
    answers = assess(model, urgent)
    return {
        "arrivals": number,
        "emergencies": len(urgent),
        "low_by_model": by_model.count("low"),
        "without_alarm_by_model": len(by_model) - by_model.count("high"),
        "low": sum(risk.band == "low" for risk in answers),
        "without_alarm": sum(not _sounds(model, risk) for risk in answers),
        "outside": sum("outside_training" in risk.findings for risk in answers),
    }


def domain_of(
    model: RiskModel, frame: pd.DataFrame, risk: Float64, subject_id: "pd.Series[str]", *, seed: int
) -> dict[str, Any] | None:
    """Judge a model's domain of use on held-out patients and on the vignettes; None: the model has none.

    Args:
        model: any.
        frame: held-out rows with ``label, hours_since_reading`` and the model's features.
        risk: what the model says of each row.
        subject_id: a number in place of the identifier of each row.
        seed: of the bootstrap.

    Returns:
        ``summary`` (:meth:`models.domain.DomainOfUse.fit`), ``held_out`` (:func:`models.evaluation.domain.judged`, of the rows
        with a reading) and ``vignettes`` (:func:`models.behaviour.examination.outside_vignettes`).
    """
    domain: DomainOfUse | None = getattr(model, "domain_", None)
    if domain is None:
        return None
    measured = frame["hours_since_reading"].notna().to_numpy()  # otherwise the model is not asked, whatever its domain is
    label = frame["label"].to_numpy(np.float64)[measured]
    return {
        "summary": domain.summary,
        "held_out": judged(domain.outside(frame)[measured], label, risk[measured], subject_id[measured], seed=seed),
        "vignettes": outside_vignettes(domain, views_read(model)),
    }


def views_read(model: RiskModel) -> tuple[str, ...]:
    """Return the views that a full answer reads: the model's, the scores', the safety net's, and who the patient is."""
    return tuple(views_of([*model.features, *of("scores", "patient", SAFETY_NET)]))


def readings_of(cohort: CohortStore, patients: list[str]) -> pd.DataFrame:
    """Read the observations of some patients, without devices and messages."""
    columns = ["subject_id", "observed_at", "signal", "value", "recorded_at"]
    parts = (part.loc[part["subject_id"].isin(patients), columns] for (part,) in cohort.iterate("observations"))
    readings = pd.concat(parts, ignore_index=True)
    return readings.assign(**{name: readings[name].astype("category") for name in ("subject_id", "signal")})  # small and quick


def _sounds(model: RiskModel, risk: Risk) -> bool:
    """Whether an alarm sounds at the first answer, by the safety net or by the model."""
    return risk.is_emergency or (risk.probability is not None and model.band(risk.probability) == "high")
