"""Propose a threshold for each ward that keeps its alarm budget, from the ward's own risks and without labels.

The threshold of the model sounds more or less often in a ward that the model has not seen (docs/models.md says how much). The
people who run a ward write the proposed threshold into ``HOME/wards.toml``.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pandas as pd

from vigil.features.errors import VigilError
from vigil.models.alarms.timeline import STEPS_PER_DAY, AlarmTimeline, threshold_at_budget
from vigil.models.registry import RegisteredModel, Registry
from vigil.models.tasks import RiskTask
from vigil.serving.records.journal import UNASSIGNED
from vigil.serving.records.prediction_log import PredictionLog
from vigil.serving.records.timestamps import present
from vigil.serving.records.ward_settings import WardSettings, WardSettingsFile
from vigil.serving.records.ward_state import WardState

FEWEST_PATIENT_DAYS: Final = 20.0  # below them nothing is proposed: about ten alarms at the usual budget


class NoLiveRisksError(VigilError):
    """The champion made no risk of a ward in that time."""


@dataclass(frozen=True)
class Proposal:
    """The proposal for one ward.

    Attributes:
        ward: its name, empty for unassigned patients.
        patients: those monitored.
        patient_days: hours with a risk of the champion, in days.
        budget: alarms per patient-day that the ward accepts.
        threshold: the one in use.
        alarms: per patient-day at that threshold, withheld ones included.
        proposed: the lowest threshold that keeps the budget; None: too little is known yet.
    """

    ward: str
    patients: int
    patient_days: float
    budget: float
    threshold: float
    alarms: float
    proposed: float | None


def propose_thresholds(home: Path, task: RiskTask, days: float) -> list[Proposal]:
    """Propose a threshold for every ward from its risks of the last days.

    Raises:
        NoModelError: there is no champion.
        NoLiveRisksError: it made no risk of a monitored patient in that time.
    """
    champion = Registry.open_existing(home).load(task.name)
    hours = PredictionLog(home).hourly(champion.name, champion.version, present() - pd.Timedelta(days=days))
    if hours.empty:
        raise NoLiveRisksError(
            f"--days {days:g}: version {champion.version} made no risk from live readings in that time; expected some, which "
            "are made while observations are sent to the server (vigil serve)"
        )
    ward_of = {risk.subject_id: risk.ward for risk in WardState(home).risks()}
    wards = WardSettingsFile(home, strict=True)
    return [
        _propose(str(ward), rows, wards.settings(str(ward)), champion, task.alarm_target.alarms_per_patient_day)
        for ward, rows in hours.groupby(hours["subject_id"].map(ward_of).fillna(UNASSIGNED))
    ]


def _propose(name: str, hours: pd.DataFrame, ward: WardSettings, champion: RegisteredModel, default_budget: float) -> Proposal:
    """Propose a threshold for one ward.

    Args:
        name: of the ward.
        hours: ``subject_id, index_time, probability, net_score, net_spot``, each hour of its patients once, by subject and
            time.
        ward: its settings.
        champion: the model that made the risks.
        default_budget: alarms per patient-day, where the ward sets none.
    """
    budget, policy = ward.alarms_per_patient_day or default_budget, ward.policy(champion)
    patient_days = len(hours) / STEPS_PER_DAY
    threshold = ward.threshold or champion.model.thresholds_["high"]
    watch = replace(
        AlarmTimeline.from_unlabelled_frame(hours), refractory_period=policy.refractory_period, news2_from=policy.news2_from
    )
    return Proposal(
        ward=name,
        patients=hours["subject_id"].nunique(),
        patient_days=patient_days,
        budget=budget,
        threshold=threshold,
        alarms=watch.count(threshold).figures()["alarms_per_patient_day"],
        proposed=threshold_at_budget(watch, budget) if patient_days >= FEWEST_PATIENT_DAYS else None,
    )
