"""Pictures of one patient, for notebooks and reports."""

from pathlib import Path
from typing import Final

import pandas as pd
from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure

from features.scores import NEWS2_HIGH, NEWS2_MEDIUM
from features.signals import SIGNALS
from features.store.client import Store
from models.cohort import index_times
from models.registry import RegisteredModel, Registry
from pipelines.cohort_store import CohortStore

SIGNALS_SHOWN: Final = ("heart_rate", "systolic_bp", "respiratory_rate", "spo2", "body_temperature", "glucose")


def patient_course(home: Path, patient_id: str) -> pd.DataFrame:
    """Risk and NEWS2 of a patient at every index time of the stay: ``index_time, probability, news2, news2_highest``.

    Raises:
        KeyError: the cohort has no such patient.
    """
    return _course(home, patient_id, Registry(home).load(CohortStore(home).task.name))


def _course(home: Path, patient_id: str, registered: RegisteredModel) -> pd.DataFrame:
    cohort = CohortStore(home)
    stays = cohort.read("stays")
    stay = stays[stays["subject_id"] == patient_id]
    if stay.empty:
        raise KeyError("no stay of this patient in the cohort")
    index = index_times(stay, cohort.task.index)[["subject_id", "index_time"]]
    rows = Store(home).training_frame(index, registered.feature_service)
    return rows[["index_time", "news2", "news2_highest"]].assign(probability=registered.model.risk(rows))


def patient_chart(home: Path, patient_id: str, hours: int = 36) -> Figure:
    """The last hours of a stay: risk and NEWS2 above the signals, the onset marked where there is one."""
    cohort = CohortStore(home)
    outcomes = cohort.read("outcomes").set_index("subject_id")
    onset = outcomes["onset"].get(patient_id)
    registered = Registry(home).load(cohort.task.name)
    course = _course(home, patient_id, registered)
    begin = course["index_time"].max() - pd.Timedelta(hours=hours)
    readings = _readings(cohort, patient_id)
    readings = readings[readings["observed_at"] > begin]
    shown = [signal for signal in SIGNALS_SHOWN if (readings["signal"] == signal).any()]
    thresholds = registered.model.thresholds_

    figure = Figure(figsize=(10, 2.2 + 1.25 * (len(shown) + 2)), layout="constrained")
    axes = figure.subplots(len(shown) + 2, sharex=True, height_ratios=[1.6, 1.2, *[1] * len(shown)])
    late = course[course["index_time"] > begin]
    axes[0].step(late["index_time"], late["probability"], where="post", color="tab:red")
    for band, style in (("medium", ":"), ("high", "--")):
        axes[0].axhline(
            thresholds[band], color="grey", linestyle=style, linewidth=0.9, label=f"{band} from {thresholds[band]:.2f}"
        )
    axes[0].set(ylabel="risk", ylim=(0, 1))
    axes[0].legend(fontsize=8, loc="upper left")
    axes[1].fill_between(late["index_time"], late["news2"], late["news2_highest"], step="post", color="tab:blue", alpha=0.2)
    axes[1].step(late["index_time"], late["news2"], where="post", color="tab:blue")
    for score, style in ((NEWS2_MEDIUM, ":"), (NEWS2_HIGH, "--")):
        axes[1].axhline(score, color="grey", linestyle=style, linewidth=0.9)
    axes[1].set(ylabel="NEWS2", ylim=(0, 20))
    for ax, signal in zip(axes[2:], shown, strict=True):
        of_signal = readings[readings["signal"] == signal]
        ax.plot(of_signal["observed_at"], of_signal["value"], ".", markersize=2, color="black", alpha=0.5)
        ax.set_ylabel(f"{signal.replace('_', ' ')}\n{SIGNALS[signal].unit}", fontsize=8)
    if onset is not None:
        for ax in axes:
            ax.axvline(onset, color="tab:red", linewidth=1.2)
        kind = outcomes["kind"][patient_id].replace("_", " ")
        axes[0].annotate(f"{kind} ", (onset, 0.85), color="tab:red", fontsize=9, ha="right")
    axes[-1].xaxis.set_major_formatter(ConciseDateFormatter(axes[-1].xaxis.get_major_locator()))
    axes[-1].set_xlabel("time, UTC")
    what = f"{cohort.task.outcome} within {cohort.task.horizon.total_seconds() / 3600:g} h"
    figure.suptitle(f"{'Simulated patient' if cohort.facts.simulated else 'Patient'}: risk of {what}, NEWS2 and signals")
    return figure


def _readings(cohort: CohortStore, patient_id: str) -> pd.DataFrame:
    parts = (part[part["subject_id"] == patient_id] for (part,) in cohort.iterate("observations"))
    return pd.concat([part for part in parts if len(part)] or [cohort.read_part("observations", 0).iloc[:0]])
