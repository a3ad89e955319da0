"""Directional tests: how a risk changes when a patient is made worse, has a longer history, or has a signal less.

The idea is from Ribeiro MT, et al. Beyond accuracy: behavioral testing of NLP models with CheckList. ACL 2020:4902-4912.
"Worse" is defined by NEWS2 (RCP 2017): the latest reading of one vital sign enters the next worse band.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from vigil.features.batch import build_features
from vigil.features.scores import NEWS2_BANDS, NEWS2_MEDIUM, compute_score
from vigil.models.behaviour.moments import LENGTHS, Bool, Float64, Moments, classify_length
from vigil.models.behaviour.vignettes import WELL, Answer
from vigil.models.training.risk_model import log_odds

RiskOf = Callable[[pd.DataFrame], Float64]
"""Function from feature rows to probabilities, shape (n_rows,)."""

# The smallest fall of the log-odds that counts as a violation. Ours: a change of this size is reported to a ward
# (serving.stream.rescorer.TOLD_LOG_ODDS). Trees step by less at the edge of any band.
TOLERANCE: Final = 0.25
# The largest shares of violations, of all signals together and of one signal. Ours: a model with the wrong sign of one signal
# violates in half or more of its changes. The default model of 400 simulated patients did so in 2 % of all changes, and in 9 %
# of those of one signal.
MOST_VIOLATIONS: Final = 0.05
MOST_VIOLATIONS_OF_A_SIGNAL: Final = 0.15
# The largest 95th percentile of falls, in log-odds. Ours: half the odds (log 2) for a patient made worse is always absurd.
LARGEST_FALL: Final = 0.7
# The largest ratio of the risk with a normal history to the risk without, either way. Ours: the bands of a model lie about
# threefold apart, so a factor above four moves a patient by more than one band. A model trained without truncated records was
# beyond the factor in 12 % of sets, and the same model trained with them in 1 %.
HISTORY_FACTOR: Final = 4.0
MOST_OUTSIDE_FACTOR: Final = 0.05
# The largest share of removals that turn a "high" of the model into "low". Ours: an answer that rests on one signal of ten does
# so in a tenth. Where NEWS2 alone set the band, the remaining signals follow the chart: this is reported and not judged.
MOST_LOW_AFTER_REMOVAL: Final = 0.05
# The fewest changes to judge by: with fewer, a single violation exceeds the largest share.
FEWEST_CASES: Final = 20

# The chart is printed in whole numbers, temperature in tenths; bands change halfway between two printed values.
_PRINTED_STEP: Final = {signal: 0.1 if signal == "body_temperature" else 1.0 for signal in NEWS2_BANDS}


def worsen_value(signal: str, value: float) -> float | None:
    """Return the nearest printed value of a vital sign in an adjacent NEWS2 band with more points; None in the worst band.

    >>> worsen_value("heart_rate", 76.0), worsen_value("spo2", 94.0), worsen_value("spo2", 88.0)
    (91.0, 93.0, None)
    """
    edges, scored = NEWS2_BANDS[signal]
    band = int(np.searchsorted(edges, value, side="right"))
    half = _PRINTED_STEP[signal] / 2
    down = [edges[band - 1] - half] if band > 0 and scored[band - 1] > scored[band] else []
    up = [edges[band] + half] if band < len(edges) and scored[band + 1] > scored[band] else []
    return min(up + down, key=lambda candidate: abs(candidate - value), default=None)


def measure_worsening(risk: RiskOf, moments: Moments, views: Iterable[str]) -> dict[str, Any]:
    """Worsen the latest reading of one vital sign at a time, and measure how often the risk falls, which it must not.

    Args:
        risk: function from feature rows to the model's probabilities alone.
        moments: the moments to change.
        views: feature views that the model reads.

    Returns:
        ``cases``: one row per signal and length of history, and their totals (``all``): ``signal, length, cases, violations,
        share, fall_median, fall_p95``. A violation is a fall of the log-odds by more than :data:`TOLERANCE`. The sizes of falls
        count all falls, and are 0 where there was none. ``judged``: how many rows by signal, by length and in total have enough
        changes to judge. ``broken``: those of them that break a limit. ``passed``: whether none does.
    """
    views = tuple(views)
    before, length = log_odds(risk(moments.features(views))), np.array(LENGTHS)[classify_length(moments.length)]
    changes = [pd.DataFrame({"signal": [], "length": [], "change": []})]
    for signal in NEWS2_BANDS:
        worse, changed = _worsen(moments, signal)
        if changed.any():
            after = log_odds(risk(worse.select(changed).features(views)))
            changes.append(pd.DataFrame({"signal": signal, "length": length[changed], "change": after - before[changed]}))
    by_case = pd.concat(changes, ignore_index=True)
    of_all = by_case.assign(signal="all", length="all")
    totals = pd.concat([of_all, by_case.assign(signal="all"), by_case.assign(length="all"), by_case])
    order = {"signal": ["all", *NEWS2_BANDS], "length": ["all", *LENGTHS]}
    totals = totals.astype({column: pd.CategoricalDtype(names) for column, names in order.items()})
    cases = [
        {"signal": signal, "length": length_of_case, **_summarise_falls(group["change"].to_numpy(np.float64))}
        for (signal, length_of_case), group in totals.groupby(["signal", "length"], observed=True)
    ]
    judged = [row for row in cases if "all" in {row["signal"], row["length"]} and row["cases"] >= FEWEST_CASES]
    broken = [row for row in judged if not _is_within_limits(row)]
    return {"cases": cases, "judged": len(judged), "broken": broken, "passed": not broken}


def measure_history_effect(risk: RiskOf, moments: Moments, views: Iterable[str]) -> dict[str, Any]:
    """Compare the risk of a set of vital signs alone with the risk of the same set one hour after that of a well adult.

    The set holds the latest value of each vital sign that is less than a day old, all read at the index time.

    Args:
        risk: function from feature rows to the model's probabilities alone.
        moments: the moments that the sets are taken from.
        views: feature views that the model reads.

    Returns:
        ``cases``: one row each for ``all`` sets, sets with NEWS2 below 5, and sets with 5 or more: ``news2, cases, outside,
        share, ratio_p5, ratio_median, ratio_p95``. The ratio is the risk with the history divided by the risk without. It is
        outside if it is beyond :data:`HISTORY_FACTOR` either way. ``judged``: how many rows have enough sets to judge.
        ``broken``: those of them that break the limit. ``passed``: whether none does.
    """
    views = tuple(views)
    latest = moments.latest_values()
    latest = latest[[signal for signal in WELL if signal in latest]]
    is_known = latest.notna().any(axis=1).to_numpy()
    sets, index = latest[is_known].reset_index(drop=True), moments.index[is_known].reset_index(drop=True)
    set_alone = _readings(sets, index, hours_ago=0)
    well_set_before = _readings(sets.mask(sets.notna(), pd.Series(WELL), axis=1), index, hours_ago=1)
    without, preceded = (
        np.asarray(risk(build_features(readings, index, views)), dtype=np.float64)
        for readings in (set_alone, pd.concat([well_set_before, set_alone], ignore_index=True))
    )
    news2 = _news2(sets)
    groups = {"all": news2 >= 0, "below 5": news2 < NEWS2_MEDIUM, "5 or more": news2 >= NEWS2_MEDIUM}
    cases = [
        {"news2": name, **_summarise_ratios(preceded[group] / without[group])} for name, group in groups.items() if group.any()
    ]
    judged = [row for row in cases if row["cases"] >= FEWEST_CASES]
    broken = [row for row in judged if row["share"] > MOST_OUTSIDE_FACTOR]
    return {"cases": cases, "judged": len(judged), "broken": broken, "passed": not broken}


def measure_removal(answer: Answer, moments: Moments, views: Iterable[str]) -> dict[str, Any]:
    """Remove one signal at a time from patients in the band "high", and count how many become "low", which they must not.

    Args:
        answer: function from feature rows to full answers, as a ward sees them.
        moments: the moments to change; only those in the band "high" are used.
        views: feature views that the answer reads.

    Returns:
        ``high``: the number of moments in the band "high". ``cases``: one row per signal and source of the band (``model``,
        also where NEWS2 agreed, or ``news2``): ``signal, decided_by, cases, low``. ``removals, low, share``: the totals where
        the model decided. ``judged``: whether these are enough to judge. ``passed``: whether the share is within
        :data:`MOST_LOW_AFTER_REMOVAL`, or there are too few.
    """
    views = tuple(views)
    before = answer(moments.features(views))
    is_high = np.array([risk.band == "high" for risk in before], dtype=bool)
    by_model = np.array([risk.decided_by == "model" for risk in before], dtype=bool)[is_high]
    high = moments.select(is_high)
    cases = []
    for signal in sorted(high.observations["signal"].unique()):
        of_signal = (high.observations["signal"] == signal).to_numpy()
        has_signal = np.bincount(high.moment_numbers()[of_signal], minlength=len(high)) > 0
        without_signal = replace(high, observations=high.observations[~of_signal]).select(has_signal)
        low = np.array([risk.band == "low" for risk in answer(without_signal.features(views))], dtype=bool)
        for decided_by, chosen in (("model", by_model[has_signal]), ("news2", ~by_model[has_signal])):
            if chosen.any():
                counts = {"cases": int(chosen.sum()), "low": int(low[chosen].sum())}
                cases.append({"signal": signal, "decided_by": decided_by, **counts})
    judged = [row for row in cases if row["decided_by"] == "model"]
    removals, turned_low = (sum(row[count] for row in judged) for count in ("cases", "low"))
    share = turned_low / removals if removals else 0.0
    is_judged = removals >= FEWEST_CASES
    return {
        "high": len(high), "cases": cases, "removals": removals, "low": turned_low, "share": share, "judged": is_judged,
        "passed": not is_judged or share <= MOST_LOW_AFTER_REMOVAL,
    }  # fmt: skip


def _worsen(moments: Moments, signal: str) -> tuple[Moments, Bool]:
    """Return the moments with the latest reading of a signal made worse where possible, and a mask of the changed moments."""
    readings, moment = moments.observations, moments.moment_numbers()
    value = readings["value"].to_numpy(np.float64).copy()
    positions = np.flatnonzero(moments.is_latest() & (readings["signal"] == signal).to_numpy())
    worse = np.array([worsen_value(signal, now) for now in value[positions]], dtype=np.float64)  # None becomes NaN
    if signal == "systolic_bp":  # it must stay above the diastolic and the mean pressure
        latest = moments.latest_values().reindex(columns=["diastolic_bp", "mean_bp"]).max(axis=1).to_numpy()
        worse = np.where(worse <= latest[moment[positions]], np.nan, worse)
    changed = np.zeros(len(moments), dtype=bool)
    observed, recorded = (readings[column].to_numpy("datetime64[us]") for column in ("observed_at", "recorded_at"))
    codes = readings["signal"].cat.codes.to_numpy()
    for last, new in zip(positions[~np.isnan(worse)], worse[~np.isnan(worse)], strict=True):
        changed[moment[last]] = True
        position = last
        # Readings of one time that became known together are ordered by value. All take the new one, so that it stays the last.
        while position >= 0 and all(column[position] == column[last] for column in (moment, codes, observed, recorded)):
            value[position] = new
            position -= 1
    return replace(moments, observations=readings.assign(value=value)), changed


def _readings(sets: pd.DataFrame, index: pd.DataFrame, *, hours_ago: int) -> pd.DataFrame:
    """Turn sets of vital signs, one per row, into observations read ``hours_ago`` hours before the index times."""
    read_at = index["index_time"] - pd.Timedelta(hours=hours_ago)
    wide = sets.assign(subject_id=index["subject_id"], observed_at=read_at, recorded_at=read_at)
    return wide.melt(["subject_id", "observed_at", "recorded_at"], var_name="signal").dropna(subset="value")


def _news2(sets: pd.DataFrame) -> Float64:
    """Return the NEWS2 of each set of vital signs."""
    values = {
        signal: sets[signal].to_numpy(np.float64) if signal in sets else np.full(len(sets), np.nan) for signal in NEWS2_BANDS
    }
    return compute_score("news2", NEWS2_BANDS, values)["news2"]


def _summarise_falls(change: Float64) -> dict[str, Any]:
    """Summarise changes of the log-odds: violations and the sizes of falls."""
    falls = -change[change < 0]
    violations = int((falls > TOLERANCE).sum())
    median, p95 = (float(size) for size in np.quantile(falls, [0.5, 0.95])) if len(falls) else (0.0, 0.0)
    return {
        "cases": len(change), "violations": violations, "share": violations / len(change),
        "fall_median": median, "fall_p95": p95,
    }  # fmt: skip


def _is_within_limits(row: dict[str, Any]) -> bool:
    """Return whether the falls of one row are within both limits."""
    most = MOST_VIOLATIONS if row["signal"] == "all" else MOST_VIOLATIONS_OF_A_SIGNAL
    return bool(row["share"] <= most and row["fall_p95"] <= LARGEST_FALL)


def _summarise_ratios(ratio: Float64) -> dict[str, Any]:
    """Summarise ratios of risks: how many are beyond the factor, and their quantiles."""
    outside = int(((ratio > HISTORY_FACTOR) | (ratio < 1 / HISTORY_FACTOR)).sum())
    p5, median, p95 = (float(quantile) for quantile in np.quantile(ratio, [0.05, 0.5, 0.95]))
    return {
        "cases": len(ratio), "outside": outside, "share": outside / len(ratio),
        "ratio_p5": p5, "ratio_median": median, "ratio_p95": p95,
    }  # fmt: skip
