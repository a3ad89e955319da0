"""Where a ward's threshold would have to lie for its alarms to keep its budget, from its own risks and without labels.

A threshold that came with the model sounds more or less often in a ward that the model has not seen
(docs/models.md says how much). An alarm that a budget would withhold had better not sound at all. Those who run the ward put
the threshold found here into ``HOME/wards.toml``.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pandas as pd

from features.errors import VigilError
from models.alarms.timeline import STEPS_PER_DAY, Watch, threshold_at_budget
from models.registry import RegisteredModel, Registry
from models.tasks import RiskTask
from serving.records.prediction_log import PredictionLog
from serving.records.timestamps import present
from serving.records.ward_settings import Ward, Wards
from serving.records.ward_state import Board
from serving.scoring.subject_state import UNASSIGNED

LEAST_DAYS: Final = 20.0  # patient-days below which nothing is proposed: ten alarms or so at the usual budget


class NothingWatchedError(VigilError):
    """No ward was watched by the champion in that time."""


@dataclass(frozen=True)
class Proposal:
    """Of one ward.

    Attributes:
        ward: its name, empty for patients of no ward.
        patients: watched.
        patient_days: hours with a risk of the champion, in days.
        budget: alarms per patient-day that it can bear.
        threshold: in use.
        alarms: per patient-day that it costs, withheld ones included.
        proposed: the lowest that keeps the budget; None: too little is known yet.
    """

    ward: str
    patients: int
    patient_days: float
    budget: float
    threshold: float
    alarms: float
    proposed: float | None


def propose(home: Path, task: RiskTask, days: float) -> list[Proposal]:
    """Thresholds of all wards from their risks of the last days.

    Raises:
        NoModelError: there is no champion.
        NothingWatchedError: it watched nobody in that time.
    """
    champion = Registry.existing(home).load(task.name)
    hours = PredictionLog(home).hourly(champion.name, champion.version, present() - pd.Timedelta(days=days))
    if hours.empty:
        raise NothingWatchedError(
            f"--days {days:g}: version {champion.version} made no risk from live readings in that time; expected some, which "
            "come by themselves while readings are sent to the server (vigil serve)"
        )
    ward_of = {row["patient"]: row["ward"] for row in Board(home).risks()}
    wards = Wards(home, strict=True)
    return [
        proposal(str(ward), rows, wards.of(str(ward)), champion, task.promise.alarms_per_patient_day)
        for ward, rows in hours.groupby(hours["subject_id"].map(ward_of).fillna(UNASSIGNED))
    ]


def proposal(name: str, hours: pd.DataFrame, ward: Ward, champion: RegisteredModel, promised: float) -> Proposal:
    """Of one ward.

    Args:
        name: of the ward.
        hours: ``subject_id, index_time, probability, net_score, net_spot``, each hour of its patients once, by subject and
            time.
        ward: what it asks.
        champion: whose risks they are.
        promised: alarms per patient-day, where the ward sets no budget.
    """
    budget, policy, patient_days = ward.alarms_per_patient_day or promised, ward.policy(champion), len(hours) / STEPS_PER_DAY
    threshold = ward.threshold or champion.model.thresholds_["high"]
    watch = replace(Watch.without_labels(hours), silence=policy.silence, news2_from=policy.news2_from)
    return Proposal(
        ward=name,
        patients=hours["subject_id"].nunique(),
        patient_days=patient_days,
        budget=budget,
        threshold=threshold,
        alarms=watch.count(threshold).figures()["alarms_per_patient_day"],
        proposed=threshold_at_budget(watch, budget) if patient_days >= LEAST_DAYS else None,
    )
