"""Examine how a model of this home behaves: on vignettes, changed patients and simulated arrivals, and in its domain of use."""

from typing import Any, Final

import numpy as np
import pandas as pd

from vigil.features.batch import build_features
from vigil.features.catalogue import SAFETY_NET, group_by_view, list_features
from vigil.features.scores import NEWS2_HIGH
from vigil.models.assessment import Assessment, assess
from vigil.models.behaviour.examination import count_vignettes_outside, examine_behaviour
from vigil.models.behaviour.vignettes import build_rows, load_vignettes
from vigil.models.cohort import assign_splits, index_times
from vigil.models.domain import DomainOfUse
from vigil.models.evaluation.domain import measure_domain_of_use
from vigil.models.evaluation.explanations import explain_row
from vigil.models.evaluation.robustness import sample_subjects
from vigil.models.training.risk_model import Float64, RiskModel
from vigil.pipelines.cohort_store import CohortStore
from vigil.pipelines.sources.simulated.arrivals import simulate_arrivals

# Our choice: some 500 of so many arrivals are emergencies by NEWS2, so a miss of one in a hundred shows.
ARRIVALS: Final = 2_000
_EXPLAINED: Final = "septic_shock"  # a report may show its parts, since it is no patient's
_EXPLAINED_HISTORY: Final = "short_leading"


def examine_held_out_behaviour(cohort: CohortStore, model: RiskModel) -> dict[str, Any]:
    """Examine a model on the vignettes, and on a sample of held-out patients with observations changed on purpose.

    Returns:
        As :func:`vigil.models.behaviour.examination.examine_behaviour`.
    """
    stays = cohort.read("stays")
    stays = stays[assign_splits(stays["subject_id"]) == "held_out"]
    patients = sample_subjects(stays["subject_id"], cohort.facts.observations / cohort.facts.subjects)
    index = index_times(stays[stays["subject_id"].isin(patients)], cohort.task.index)
    return examine_behaviour(
        lambda rows: assess(model, rows), model.risk, required_views(model), read_observations(cohort, patients), index
    )


def examine_arrivals(model: RiskModel, *, seed: int, number: int = ARRIVALS) -> dict[str, int]:
    """Count a model's answers for simulated patients at arrival whose NEWS2 asks for an emergency response.

    Args:
        model: a model with thresholds.
        seed: of the simulation.
        number: of arrivals.

    Returns:
        ``arrivals``, and ``emergencies``: those with a NEWS2 of 7 or more by the chart. Of the emergencies:
        ``low_by_model`` and ``without_alarm_by_model``, the answers of the model alone; ``low`` and ``without_alarm``, the
        answers with the safety net; and ``outside``, those outside the domain of use.
    """
    observations, index = simulate_arrivals(number, seed)
    rows = build_features(observations, index, required_views(model))
    urgent = rows[rows["news2"] >= NEWS2_HIGH]
    bands = [model.band(probability) for probability in model.risk(urgent).tolist()] if len(urgent) else []
    risks = assess(model, urgent)
    return {
        "arrivals": number,
        "emergencies": len(urgent),
        "low_by_model": bands.count("low"),
        "without_alarm_by_model": len(bands) - bands.count("high"),
        "low": sum(risk.band == "low" for risk in risks),
        "without_alarm": sum(not _sounds(model, risk) for risk in risks),
        "outside": sum("outside_training" in risk.findings for risk in risks),
    }


def explain_vignette(model: RiskModel) -> dict[str, Any] | None:
    """Explain a model's risk of one vignette, a patient who was made up; None for a model that cannot say.

    Returns:
        As :func:`vigil.models.evaluation.explanations.explain_row`, with the ``title`` of the vignette.
    """
    (vignette,) = (one for one in load_vignettes() if one.name == _EXPLAINED)
    explained = explain_row(model, build_rows([vignette], _EXPLAINED_HISTORY, required_views(model)))
    return None if explained is None else {"title": vignette.title, **explained}


def examine_domain(
    model: RiskModel, frame: pd.DataFrame, risk: Float64, subject_id: "pd.Series[str]", *, seed: int
) -> dict[str, Any] | None:
    """Examine a model's domain of use on held-out patients and on the vignettes; return None for a model without one.

    Args:
        model: any model.
        frame: held-out rows with ``label, hours_since_reading`` and the model's features.
        risk: of each row, shape (n_rows,).
        subject_id: of each row, a number in place of the subject key.
        seed: of the bootstrap.

    Returns:
        ``summary`` (:meth:`vigil.models.domain.DomainOfUse.fit`), ``held_out``
        (:func:`vigil.models.evaluation.domain.measure_domain_of_use`, on rows
        with an observation) and ``vignettes`` (:func:`vigil.models.behaviour.examination.count_vignettes_outside`).
    """
    domain: DomainOfUse | None = getattr(model, "domain_", None)
    if domain is None:
        return None
    measured = frame["hours_since_reading"].notna().to_numpy()  # without an observation the model is never asked
    label = frame["label"].to_numpy(np.float64)[measured]
    return {
        "summary": domain.summary,
        "held_out": measure_domain_of_use(
            domain.outside(frame)[measured], label, risk[measured], subject_id[measured], seed=seed
        ),
        "vignettes": count_vignettes_outside(domain, required_views(model)),
    }


def required_views(model: RiskModel) -> tuple[str, ...]:
    """Return the views that a full answer reads: of the model, the scores, the safety net, and age and sex."""
    return tuple(group_by_view([*model.features, *list_features("scores", "patient", SAFETY_NET)]))


def read_observations(cohort: CohortStore, patients: list[str]) -> pd.DataFrame:
    """Read the observations of some patients, without devices and messages."""
    unread = ["device_id", "source", "message_id"]
    tables = (table[table["subject_id"].isin(patients)] for (table,) in cohort.iterate("observations"))
    observations = pd.concat((table.drop(columns=unread, errors="ignore") for table in tables), ignore_index=True)
    # Categories need little memory and compare quickly.
    return observations.assign(**{name: observations[name].astype("category") for name in ("subject_id", "signal")})


def _sounds(model: RiskModel, risk: Assessment) -> bool:
    """Return whether the first answer sounds an alarm, by the safety net or by the model."""
    return risk.is_emergency or (risk.probability is not None and model.band(risk.probability) == "high")
