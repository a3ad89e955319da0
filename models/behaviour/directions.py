"""Directional tests: how a risk answers when a patient is made worse, known for longer, or known by less.

Directional expectation tests: Ribeiro MT, et al. Beyond accuracy: behavioral testing of NLP models with CheckList. ACL
2020:4902-4912. What is worse is taken from NEWS2 (RCP 2017): the latest reading of one vital sign enters the next worse band.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from features.batch import build_features
from features.scores import NEWS2_BANDS, NEWS2_MEDIUM, score
from models.behaviour.moments import LENGTHS, Bool, Float64, Moments, length_class
from models.behaviour.vignettes import WELL, Answer
from models.training.risk_model import log_odds

RiskOf = Callable[[pd.DataFrame], Float64]
"""From feature rows to probabilities, shape (n_rows,)."""

# A fall of the log-odds that counts. Ours: a change as large as this is news to a ward
# (serving.stream.rescorer.TOLD_LOG_ODDS); trees step by less at the edge of any band.
TOLERANCE: Final = 0.25
# Shares of changes after which the risk may fall by more, of all signals together and of one. Ours: a model with the wrong sign
# of one signal violates half or more of its changes; the default model of 400 simulated patients did so in 2 % of all, in 9 %
# of one.
MOST_VIOLATIONS: Final = 0.05
MOST_VIOLATIONS_OF_A_SIGNAL: Final = 0.15
# Log-odds, of the 95th percentile of falls. Ours: half the odds (log 2) for a patient who is worse is absurd at any share.
LARGEST_FALL: Final = 0.7
# Risk with a normal history divided by that without, either way. Ours: bands of a model lie about threefold apart, so beyond
# four the history alone moves a patient by more than a band. A model that had learned from no cut records was beyond in 12 % of
# sets, the same model that had in 1 %.
HISTORY_FACTOR: Final = 4.0
MOST_OUTSIDE_FACTOR: Final = 0.05
# Share of removals that turn a "high" of the model into "low". Ours: an answer that rests on one signal of ten does so in a
# tenth. Where NEWS2 alone had set the band, what is left follows the chart: that is shown and not judged.
MOST_LOW_AFTER_REMOVAL: Final = 0.05
# Below so many changes one violation is more than the share that is allowed.
FEWEST_CASES: Final = 20

# The chart is printed in whole numbers, temperature in tenths; bands change halfway between two printed values.
_PRINTED_STEP: Final = {signal: 0.1 if signal == "body_temperature" else 1.0 for signal in NEWS2_BANDS}


def worse_value(signal: str, value: float) -> float | None:
    """Return the nearest printed value of a vital sign in an adjacent NEWS2 band with more points; None in the worst.

    >>> worse_value("heart_rate", 76.0), worse_value("spo2", 94.0), worse_value("spo2", 88.0)
    (91.0, 93.0, None)
    """
    edges, scored = NEWS2_BANDS[signal]
    band = int(np.searchsorted(edges, value, side="right"))
    half = _PRINTED_STEP[signal] / 2
    down = [edges[band - 1] - half] if band > 0 and scored[band - 1] > scored[band] else []
    up = [edges[band] + half] if band < len(edges) and scored[band + 1] > scored[band] else []
    return min(up + down, key=lambda candidate: abs(candidate - value), default=None)


def worsening(risk: RiskOf, moments: Moments, views: Iterable[str]) -> dict[str, Any]:
    """Worsen the latest reading of one vital sign at a time and follow the risk, which must not fall.

    Args:
        risk: of the model alone.
        moments: to be changed.
        views: of the features that the model reads.

    Returns:
        ``cases``: one row a signal and length of history, and their totals (``all``): ``signal, length, cases, violations,
        share, fall_median, fall_p95``. A violation is a fall of the log-odds by more than :data:`TOLERANCE`; the sizes are
        those of all falls, 0 where there was none. ``judged``: how many of each signal, each length and the total have enough
        changes to judge; ``broken``: those of them that break a limit; ``passed``: whether none does.
    """
    views = tuple(views)
    before, length = log_odds(risk(moments.features(views))), np.array(LENGTHS)[length_class(moments.length)]
    changes = [pd.DataFrame({"signal": [], "length": [], "change": []})]
    for signal in NEWS2_BANDS:
        worse, at = _worsened(moments, signal)
        if at.any():
            after = log_odds(risk(worse.only(at).features(views)))
            changes.append(pd.DataFrame({"signal": signal, "length": length[at], "change": after - before[at]}))
    each = pd.concat(changes, ignore_index=True)
    both = each.assign(signal="all", length="all")
    totals = pd.concat([both, each.assign(signal="all"), each.assign(length="all"), each])
    order = {"signal": ["all", *NEWS2_BANDS], "length": ["all", *LENGTHS]}
    totals = totals.astype({column: pd.CategoricalDtype(names) for column, names in order.items()})
    cases = [
        {"signal": signal, "length": of_length, **_falls(group["change"].to_numpy(np.float64))}
        for (signal, of_length), group in totals.groupby(["signal", "length"], observed=True)
    ]
    judged = [row for row in cases if "all" in {row["signal"], row["length"]} and row["cases"] >= FEWEST_CASES]
    broken = [row for row in judged if not _is_kept(row)]
    return {"cases": cases, "judged": len(judged), "broken": broken, "passed": not broken}


def history(risk: RiskOf, moments: Moments, views: Iterable[str]) -> dict[str, Any]:
    """Compare the risk of a set of vital signs known alone with that of the same set an hour after those of a well adult.

    The set holds the latest value of each sign that a day carries forward, all read at the index time.

    Args:
        risk: of the model alone.
        moments: whose sets are taken.
        views: of the features that the model reads.

    Returns:
        ``cases``: one row each for ``all`` sets, those with NEWS2 below 5 and those of 5 or more: ``news2, cases, outside,
        share, ratio_p5, ratio_median, ratio_p95``, the ratio being the risk with a history divided by that without, outside
        where it is beyond :data:`HISTORY_FACTOR` either way. ``judged``: how many of them have enough sets to judge;
        ``broken``: those of them that break the limit; ``passed``: whether none does.
    """
    views = tuple(views)
    latest = moments.latest()
    latest = latest[[signal for signal in WELL if signal in latest]]
    known = latest.notna().any(axis=1).to_numpy()
    sets, index = latest[known].reset_index(drop=True), moments.index[known].reset_index(drop=True)
    alone = _readings(sets, index, hours_ago=0)
    well_before = _readings(sets.mask(sets.notna(), pd.Series(WELL), axis=1), index, hours_ago=1)
    without, preceded = (
        np.asarray(risk(build_features(readings, index, views)), dtype=np.float64)
        for readings in (alone, pd.concat([well_before, alone], ignore_index=True))
    )
    news2 = _news2(sets)
    groups = {"all": news2 >= 0, "below 5": news2 < NEWS2_MEDIUM, "5 or more": news2 >= NEWS2_MEDIUM}
    cases = [{"news2": name, **_ratios(preceded[group] / without[group])} for name, group in groups.items() if group.any()]
    judged = [row for row in cases if row["cases"] >= FEWEST_CASES]
    broken = [row for row in judged if row["share"] > MOST_OUTSIDE_FACTOR]
    return {"cases": cases, "judged": len(judged), "broken": broken, "passed": not broken}


def removal(answer: Answer, moments: Moments, views: Iterable[str]) -> dict[str, Any]:
    """Take away all readings of one signal at a time from patients in the band "high", who must not become "low".

    Args:
        answer: the full answer: what a ward sees.
        moments: those in the band "high" are looked at.
        views: of the features that the answer reads.

    Returns:
        ``high``: the number of such moments. ``cases``: one row a signal and what had set the band (``model``, also where NEWS2
        agreed, or ``news2``): ``signal, decided_by, cases, low``. ``removals, low, share``: the totals of those by the model.
        ``judged``: whether these are enough to judge; ``passed``: whether the share keeps its limit, or they are too few.
    """
    views = tuple(views)
    before = answer(moments.features(views))
    is_high = np.array([risk.band == "high" for risk in before], dtype=bool)
    by_model = np.array([risk.decided_by == "model" for risk in before], dtype=bool)[is_high]
    high = moments.only(is_high)
    cases = []
    for signal in sorted(high.observations["signal"].unique()):
        of_signal = (high.observations["signal"] == signal).to_numpy()
        has_it = np.bincount(high.numbers()[of_signal], minlength=len(high)) > 0
        left = replace(high, observations=high.observations[~of_signal]).only(has_it)
        low = np.array([risk.band == "low" for risk in answer(left.features(views))], dtype=bool)
        for decided_by, chosen in (("model", by_model[has_it]), ("news2", ~by_model[has_it])):
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


def _worsened(moments: Moments, signal: str) -> tuple[Moments, Bool]:
    """The moments with the latest reading of a signal made worse where it can be, and where it was."""
    readings, number = moments.observations, moments.numbers()
    value = readings["value"].to_numpy(np.float64).copy()
    places = np.flatnonzero(moments.latest_readings() & (readings["signal"] == signal).to_numpy())
    worse = np.array([worse_value(signal, now) for now in value[places]], dtype=np.float64)  # None becomes NaN
    if signal == "systolic_bp":  # it stays above what else was measured of the pressure
        latest = moments.latest().reindex(columns=["diastolic_bp", "mean_bp"]).max(axis=1).to_numpy()
        worse = np.where(worse <= latest[number[places]], np.nan, worse)
    at = np.zeros(len(moments), dtype=bool)
    observed, recorded = (readings[column].to_numpy("datetime64[us]") for column in ("observed_at", "recorded_at"))
    codes = readings["signal"].cat.codes.to_numpy()
    for last, new in zip(places[~np.isnan(worse)], worse[~np.isnan(worse)], strict=True):
        at[number[last]] = True
        place = last
        # Readings of one time that became known together are ordered by value: all take the new one, so that it is the last.
        while place >= 0 and all(column[place] == column[last] for column in (number, codes, observed, recorded)):
            value[place] = new
            place -= 1
    return replace(moments, observations=readings.assign(value=value)), at


def _readings(sets: pd.DataFrame, index: pd.DataFrame, *, hours_ago: int) -> pd.DataFrame:
    """Sets of vital signs, one a row, as observations read so many hours before the index times."""
    read_at = index["index_time"] - pd.Timedelta(hours=hours_ago)
    wide = sets.assign(subject_id=index["subject_id"], observed_at=read_at, recorded_at=read_at)
    return wide.melt(["subject_id", "observed_at", "recorded_at"], var_name="signal").dropna(subset="value")


def _news2(sets: pd.DataFrame) -> Float64:
    values = {
        signal: sets[signal].to_numpy(np.float64) if signal in sets else np.full(len(sets), np.nan) for signal in NEWS2_BANDS
    }
    return score("news2", NEWS2_BANDS, values)["news2"]


def _falls(change: Float64) -> dict[str, Any]:
    falls = -change[change < 0]
    violations = int((falls > TOLERANCE).sum())
    median, p95 = (float(size) for size in np.quantile(falls, [0.5, 0.95])) if len(falls) else (0.0, 0.0)
    return {
        "cases": len(change), "violations": violations, "share": violations / len(change),
        "fall_median": median, "fall_p95": p95,
    }  # fmt: skip


def _is_kept(row: dict[str, Any]) -> bool:
    most = MOST_VIOLATIONS if row["signal"] == "all" else MOST_VIOLATIONS_OF_A_SIGNAL
    return bool(row["share"] <= most and row["fall_p95"] <= LARGEST_FALL)


def _ratios(ratio: Float64) -> dict[str, Any]:
    outside = int(((ratio > HISTORY_FACTOR) | (ratio < 1 / HISTORY_FACTOR)).sum())
    p5, median, p95 = (float(quantile) for quantile in np.quantile(ratio, [0.05, 0.5, 0.95]))
    return {
        "cases": len(ratio), "outside": outside, "share": outside / len(ratio),
        "ratio_p5": p5, "ratio_median": median, "ratio_p95": p95,
    }  # fmt: skip
