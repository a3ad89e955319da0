"""Look at a cohort before anything is made of it: what would be taken, what would be quarantined and why, and the outcome."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import pandas as pd

from vigil.features.measures import name_signal
from vigil.features.signals import SIGNALS, measured_signal
from vigil.models.cohort import index_times, label_index_times, patient_of
from vigil.models.tasks import RiskTask
from vigil.pipelines.jobs.ingest import check_observations, check_stays
from vigil.pipelines.progress import track
from vigil.pipelines.sources import Source

_FACTS: Final = ("age", "sex", "unit", "unit_admitted_at", "hospital_admitted_at")
_LEAST: Final = 20  # observations or stays from which a share is looked at; ours
_LAST: Final = timedelta(hours=1)  # of a stay
_LONG: Final = timedelta(hours=12)  # stays that are shorter have little beside their last hour
_MOST_AT_THE_END: Final = 0.5  # share of a signal's observations in the last hour; ours
_MOST_AFTERWARDS: Final = 0.8  # share of stays in which a signal is first charted after the onset; ours
_FEW_EVENTS: Final = 50  # below which intervals are so wide that a model can hardly be judged; ours


@dataclass(frozen=True)
class SignalFacts:
    """What a cohort holds of one signal.

    Attributes:
        unit: of the figures.
        accepted: observations that can be used.
        stays: with at least one of them.
        low, median, high: the 1st, 50th and 99th percentile of their values; NaN: none.
        quarantined: readings that cannot be used, by reason.
    """

    unit: str
    accepted: int = 0
    stays: int = 0
    low: float = np.nan
    median: float = np.nan
    high: float = np.nan
    quarantined: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class CohortCheck:
    """What would become of a cohort.

    Attributes:
        name, task: of the cohort.
        stays, patients: their numbers.
        hours: median length of a stay.
        known: share of stays of which each fact is known.
        events: stays with the outcome; ``onset_hours``: median time from the start to a known onset.
        index_times, positive: times at which the task asks, and those with a positive label.
        signals: by name; ``other`` for names that are none.
        left_out: rows of long tables whose code stands for no signal, by table and code.
        warnings: what to look at, in sentences.
    """

    name: str
    task: str
    stays: int
    patients: int
    hours: float
    known: dict[str, float]
    events: int
    onset_hours: float
    index_times: int
    positive: int
    signals: dict[str, SignalFacts]
    left_out: dict[str, dict[str, int]]
    warnings: list[str]


def check_cohort(source: Source) -> CohortCheck:
    """Check a source as :func:`vigil.pipelines.jobs.ingest.ingest` would, and write nothing.

    Raises:
        SourceError: its tables break their contract.
    """
    now, task = pd.Timestamp(datetime.now(UTC)), source.task
    quarantined: Counter[tuple[str, str]] = Counter()
    values: dict[str, list[np.ndarray]] = {}
    stays_with: Counter[str] = Counter()
    all_stays, all_outcomes, times, positive = [], [], 0, 0
    charted = []
    for batch in track(source.batches(), f"check {source.name}", len(source)):
        check_stays(batch)
        checked = check_observations(batch, source, now)
        for signal, own in checked.accepted.groupby("signal", observed=True):
            values.setdefault(str(signal), []).append(own["value"].to_numpy())
            stays_with[str(signal)] += own["subject_id"].nunique()
        quarantined.update(
            zip(checked.quarantined["signal"].map(name_signal).astype(str), checked.quarantined["reason"], strict=True)
        )
        charted.append(_when_charted(checked.accepted, batch.stays, batch.outcomes))
        labelled = label_index_times(index_times(batch.stays, task.index), batch.outcomes, task)
        times, positive = times + int(labelled["label"].notna().sum()), positive + int((labelled["label"] == 1).sum())
        all_stays.append(batch.stays)
        all_outcomes.append(batch.outcomes)
    stays, outcomes = pd.concat(all_stays, ignore_index=True), pd.concat(all_outcomes, ignore_index=True)
    known = outcomes[outcomes["onset_known"].astype(bool)].merge(stays, on="subject_id")
    signals = _signals(values, stays_with, quarantined)
    result = CohortCheck(
        name=source.name,
        task=task.name,
        stays=len(stays),
        patients=len({patient_of(str(subject)) for subject in stays["subject_id"]}),
        hours=_hours(stays["end"] - stays["start"]),
        known={name: float(stays[name].notna().mean()) for name in _FACTS},
        events=len(outcomes),
        onset_hours=_hours(known["onset"] - known["start"]),
        index_times=times,
        positive=positive,
        signals=signals,
        left_out={table: dict(codes) for table, codes in source.left_out.items()},
        warnings=[*source.notes],
    )
    result.warnings.extend([*_warnings(result, known, task), *_leaks(pd.concat(charted).groupby(level=0).sum())])
    return result


def _when_charted(observations: pd.DataFrame, stays: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return by signal when it is charted.

    Returns:
        ``observations`` of long stays, ``at_end`` of them in the last hour; ``stays`` with a known onset that have the signal,
        ``afterwards`` of them for the first time after the onset.
    """
    rows = observations[["subject_id", "signal", "observed_at"]].merge(stays[["subject_id", "start", "end"]], on="subject_id")
    rows["signal"] = rows["signal"].astype(str)
    long = rows[rows["end"] - rows["start"] >= _LONG]
    known = outcomes.loc[outcomes["onset_known"].astype(bool), ["subject_id", "onset"]]
    first = rows.groupby(["subject_id", "signal"])["observed_at"].min().reset_index().merge(known, on="subject_id")
    counts = {
        "observations": long["signal"],
        "at_end": long.loc[long["observed_at"] > long["end"] - _LAST, "signal"],
        "stays": first["signal"],
        "afterwards": first.loc[first["observed_at"] >= first["onset"], "signal"],
    }
    return pd.DataFrame({name: of.value_counts() for name, of in counts.items()}).fillna(0).astype(int)


def _leaks(charted: pd.DataFrame) -> list[str]:
    """Return warnings of signals that may give the answer away: they come with the end of a stay, or after the onset."""
    warnings = []
    for signal, row in charted.iterrows():
        if row["observations"] >= _LEAST and row["at_end"] > _MOST_AT_THE_END * row["observations"]:
            share = row["at_end"] / row["observations"]
            warnings.append(f"{signal}: {share:.0%} of it is charted in the last hour of a stay, so it may tell of its end")
        if row["stays"] >= _LEAST and row["afterwards"] > _MOST_AFTERWARDS * row["stays"]:
            share = row["afterwards"] / row["stays"]
            warnings.append(
                f"{signal}: in {share:.0%} of the stays with the outcome it is first charted after the onset, so it may be a "
                "consequence of it"
            )
    return warnings


def _signals(
    values: dict[str, list[np.ndarray]], stays: Counter[str], quarantined: Counter[tuple[str, str]]
) -> dict[str, SignalFacts]:
    reasons: dict[str, dict[str, int]] = {}
    for (signal, reason), count in sorted(quarantined.items()):
        name = signal if signal in SIGNALS else "other"
        reasons.setdefault(name, {}).setdefault(reason, 0)
        reasons[name][reason] += count
    present = [name for name in SIGNALS if name in values or name in reasons]
    found = {}
    for name in present:
        numbers = np.concatenate(
            [array for signal, parts in values.items() if signal == name for array in parts] or [np.empty(0)]
        )
        bounds = sum(
            len(array) for signal, parts in values.items() if measured_signal(signal) == name != signal for array in parts
        )
        low, median, high = np.quantile(numbers, [0.01, 0.5, 0.99]).tolist() if len(numbers) else [np.nan] * 3
        found[name] = SignalFacts(
            SIGNALS[name].unit, len(numbers) + bounds, stays[name], low, median, high, reasons.get(name, {})
        )
    if "other" in reasons:
        found["other"] = SignalFacts("", quarantined=reasons["other"])
    return found


def _hours(durations: "pd.Series[pd.Timedelta]") -> float:
    return float((durations / pd.Timedelta(hours=1)).median())


def _warnings(result: CohortCheck, known: pd.DataFrame, task: RiskTask) -> list[str]:
    accepted = sum(signal.accepted for signal in result.signals.values())
    unusable = sum(sum(signal.quarantined.values()) for signal in result.signals.values())
    warnings = []
    if not accepted:
        warnings.append("no reading can be used, so no model can learn from this cohort")
    elif unusable > accepted / 20:
        warnings.append(f"{unusable / (accepted + unusable):.0%} of the readings would be quarantined: look at the reasons")
    for name, signal in result.signals.items():
        if name in SIGNALS and signal.accepted and not SIGNALS[name].low <= signal.median <= SIGNALS[name].high:
            warnings.append(f"{name}: a median of {signal.median:g} {signal.unit} is hardly possible: check its unit")
    if not result.events:
        warnings.append("no stay has the outcome, so no model can be trained")
    elif result.events < _FEW_EVENTS:
        warnings.append(f"{result.events} stays have the outcome: too few to judge a model well; expect wide intervals")
    if result.events == result.stays:
        warnings.append("every stay has the outcome: there is nothing to tell apart")
    late = int((known["onset"] > known["end"] + timedelta(hours=1)).sum())
    if late and task.index == "hourly":
        warnings.append(f"{late} onsets lie more than an hour after the end of their stay")
    early = int((known["onset"] < known["start"]).sum())
    if early:
        warnings.append(f"{early} onsets lie before the start of their stay; label them as not known, or correct them")
    return warnings
