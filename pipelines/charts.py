"""Charts of one patient, for notebooks and reports."""

from typing import Final

import pandas as pd
from matplotlib.dates import ConciseDateFormatter
from matplotlib.figure import Figure

from vigil.features.display_names import name_signal, name_unit
from vigil.features.kernel.plan import UNBOUNDED
from vigil.features.revisions import counts_until
from vigil.features.scores import NEWS2_HIGH, NEWS2_MEDIUM
from vigil.features.signals import SIGNALS
from vigil.models.cohort import index_times
from vigil.models.registry import RegisteredModel
from vigil.models.tasks import describe_outcome
from vigil.pipelines.cohort_store import CohortStore
from vigil.pipelines.home import Home

_MANY: Final = 200  # values, which would hide each other as large dots
SIGNALS_SHOWN: Final = ("heart_rate", "systolic_bp", "respiratory_rate", "spo2", "body_temperature", "glucose")


def patient_course(home: Home, subject_id: str) -> pd.DataFrame:
    """Return the champion's risk and NEWS2 at every index time of one stay.

    Returns:
        ``index_time, probability, news2, news2_highest``, by time.

    Raises:
        KeyError: the cohort has no stay of this subject.
    """
    return _course(home, subject_id, home.registry.load(home.cohort.task.name))


def _course(home: Home, subject_id: str, registered: RegisteredModel) -> pd.DataFrame:
    stays = home.cohort.read("stays")
    stay = stays[stays["subject_id"] == subject_id]
    if stay.empty:
        raise KeyError("no stay of this subject in the cohort")
    index = index_times(stay, home.cohort.task.index)[["subject_id", "index_time"]]
    rows = home.features.read_training_frame(index, registered.feature_service)
    return rows[["index_time", "news2", "news2_highest"]].assign(probability=registered.model.risk(rows))


def patient_chart(home: Home, subject_id: str, hours: int = 36, version: str | None = None) -> Figure:
    """Draw the last hours of a stay: risk, NEWS2 and the signals below each other, with the onset if there is one.

    Args:
        home: whose cohort holds the stay.
        subject_id: of the stay.
        hours: before its last index time.
        version: of the model; default: the champion.

    Raises:
        KeyError: the cohort has no stay of this subject.
    """
    cohort = home.cohort
    outcomes = cohort.read("outcomes").set_index("subject_id")
    onset = outcomes["onset"].get(subject_id)
    registered = home.registry.load(cohort.task.name, version)
    course = _course(home, subject_id, registered)
    start = course["index_time"].max() - pd.Timedelta(hours=hours)
    course = course[course["index_time"] > start]
    observations = _observations(cohort, subject_id)
    observations = observations[observations["observed_at"] > start]
    signals = [signal for signal in SIGNALS_SHOWN if (observations["signal"] == signal).any()]
    thresholds = registered.model.thresholds_

    figure = Figure(figsize=(10, 2.2 + 1.25 * (len(signals) + 2)), layout="constrained")
    axes = figure.subplots(len(signals) + 2, sharex=True, height_ratios=[1.6, 1.2, *[1] * len(signals)])
    axes[0].step(course["index_time"], course["probability"], where="post", color="tab:red")
    for band, style in (("medium", ":"), ("high", "--")):
        axes[0].axhline(
            thresholds[band], color="grey", linestyle=style, linewidth=0.9, label=f"{band} from {thresholds[band]:.2g}"
        )
    highest = max(float(course["probability"].max()), thresholds["high"])
    axes[0].set(ylabel="risk", ylim=(0, min(1, 1.6 * highest)))
    axes[0].legend(fontsize=8, loc="upper left")
    axes[1].fill_between(
        course["index_time"], course["news2"], course["news2_highest"], step="post", color="tab:blue", alpha=0.2
    )
    axes[1].step(course["index_time"], course["news2"], where="post", color="tab:blue")
    for score, style in ((NEWS2_MEDIUM, ":"), (NEWS2_HIGH, "--")):
        axes[1].axhline(score, color="grey", linestyle=style, linewidth=0.9)
    axes[1].set(ylabel="NEWS2", ylim=(0, 20))
    for ax, signal in zip(axes[2:], signals, strict=True):
        of_signal = observations[observations["signal"] == signal]
        size = 2 if len(of_signal) > _MANY else 5
        ax.plot(of_signal["observed_at"], of_signal["value"], ".", markersize=size, color="black", alpha=0.5)
        ax.set_ylabel(f"{name_signal(signal)}\n{name_unit(SIGNALS[signal].unit)}", fontsize=8)
    if onset is not None:
        for ax in axes:
            ax.axvline(onset, color="tab:red", linewidth=1.2)
        kind = outcomes["kind"][subject_id].replace("_", " ")
        axes[0].annotate(f"{kind} ", (onset, 0.85), xycoords=("data", "axes fraction"), color="tab:red", fontsize=9, ha="right")
    axes[-1].xaxis.set_major_formatter(ConciseDateFormatter(axes[-1].xaxis.get_major_locator()))
    axes[-1].set_xlabel("time, UTC")
    outcome = describe_outcome(cohort.task.outcome, cohort.task.horizon)
    figure.suptitle(f"{'Simulated patient' if cohort.facts.simulated else 'Patient'}: risk of {outcome}, NEWS2 and signals")
    return figure


def _observations(cohort: CohortStore, subject_id: str) -> pd.DataFrame:
    tables = (table[table["subject_id"] == subject_id] for (table,) in cohort.iterate("observations"))
    observations = pd.concat([table for table in tables if len(table)] or [cohort.read_partition("observations", 0).iloc[:0]])
    counting: pd.DataFrame = observations[counts_until(observations) == UNBOUNDED]
    return counting
