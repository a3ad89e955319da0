"""Alarm budgets: what alarms give within a budget, and how many fewer the model needs than a rule such as NEWS2."""

from collections.abc import Iterable
from typing import Final

import numpy as np
import pandas as pd

from vigil.models.alarms.timeline import AlarmCounts, AlarmTimeline, threshold_at_budget, threshold_at_recall
from vigil.models.statistics.bootstrap import percentile_interval, ratio

BUDGETS: Final = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)  # alarms per patient-day
_RATE: Final = "alarms_per_patient_day"


def evaluate_budgets(timeline: AlarmTimeline, *, seed: int, budgets: Iterable[float] = BUDGETS) -> pd.DataFrame:
    """Evaluate alarms at the lowest threshold within each budget, chosen with hindsight on these patients.

    Args:
        timeline: hours of patients.
        seed: of the bootstrap.
        budgets: alarms per patient-day.

    Returns:
        One row per budget: ``budget, threshold`` and the figures of :func:`summarise_alarms`.
    """
    rows = []
    for budget in budgets:
        threshold = threshold_at_budget(timeline, budget)
        rows.append({"budget": budget, "threshold": threshold, **summarise_alarms(timeline.count(threshold), seed=seed)})
    return pd.DataFrame(rows)


def summarise_alarms(count: AlarmCounts, *, seed: int) -> dict[str, float]:
    """Return the figures of alarms at one threshold with 95 % intervals, and the spread of the lead time.

    Returns:
        ``event_recall, alarm_precision, alarms_per_patient_day, lead_time_hours`` (median), each with ``_low`` and ``_high``;
        ``lead_time_q25, lead_time_q75`` (hours, of the first alarm within the horizon); ``events, alarms, patient_days``.
    """
    caught = count.lead_hours[~np.isnan(count.lead_hours)]
    quartiles = np.percentile(caught, [25, 75]) if len(caught) else (np.nan, np.nan)
    return {
        **count.figures(),
        **count.bounds(count.draws(count.resamples(seed))),
        "lead_time_q25": float(quartiles[0]),
        "lead_time_q75": float(quartiles[1]),
        "events": float(count.event.sum()),
        "alarms": float(count.alarms.sum()),
        "patient_days": float(count.days.sum()),
    }


def compare_with_rule(model: AlarmTimeline, rule: AlarmTimeline, at_least: float, *, seed: int) -> dict[str, float]:
    """Compare a model with the rule "score at or above a number", over the same hours.

    The model's thresholds give as many alarms as the rule, or the same recall. They are chosen with hindsight on these
    patients, as the figures of the rule are. Intervals keep the thresholds fixed and draw the same patients for both.

    Args:
        model, rule: the same hours. The rule's ``probability`` is the score itself, so that whole points are compared exactly.
        at_least: points from which the rule sounds.
        seed: of the bootstrap.

    Returns:
        - Of the rule: ``rule_recall, rule_precision, rule_alarms_per_patient_day``.
        - With no more alarms than the rule: ``recall_at_same_alarms, precision_at_same_alarms, recall_gain`` and the threshold.
        - With no fewer onsets caught than by the rule: ``share_of_alarms_at_same_recall`` and the threshold.

        Most have limits, ``_low`` and ``_high``. Values are NaN if the rule never sounds or catches no onset.
    """
    theirs = rule.count(at_least)
    resamples, figures = theirs.resamples(seed), theirs.figures()
    their_draws = theirs.draws(resamples)
    their_bounds = theirs.bounds(their_draws)
    result = {"at_least": at_least}
    for name, figure in (("recall", "event_recall"), ("precision", "alarm_precision"), (_RATE, _RATE)):
        result |= {f"rule_{name}": figures[figure]}
        result |= {f"rule_{name}_{side}": their_bounds[f"{figure}_{side}"] for side in ("low", "high")}
    threshold = threshold_at_budget(model, figures[_RATE])
    ours = model.count(threshold)
    our_figures, our_draws = ours.figures(), ours.draws(resamples)
    our_bounds = ours.bounds(our_draws)
    gain = percentile_interval(our_draws["event_recall"] - their_draws["event_recall"])
    result |= {
        "threshold_at_same_alarms": threshold,
        "recall_at_same_alarms": our_figures["event_recall"],
        "recall_at_same_alarms_low": our_bounds["event_recall_low"],
        "recall_at_same_alarms_high": our_bounds["event_recall_high"],
        "precision_at_same_alarms": our_figures["alarm_precision"],
        "recall_gain": our_figures["event_recall"] - figures["event_recall"],
        "recall_gain_low": gain[0],
        "recall_gain_high": gain[1],
    }
    return result | _at_same_recall(model, theirs, seed)


def _at_same_recall(model: AlarmTimeline, theirs: AlarmCounts, seed: int) -> dict[str, float]:
    """Return the model's threshold that catches as many onsets as the rule, and its share of the rule's alarms."""
    recall, name = theirs.figures()["event_recall"], "share_of_alarms_at_same_recall"
    if not recall > 0:
        return {"threshold_at_same_recall": np.nan, name: np.nan, f"{name}_low": np.nan, f"{name}_high": np.nan}
    threshold = threshold_at_recall(model, recall)
    ours, resamples = model.count(threshold), theirs.resamples(seed)
    low, high = percentile_interval(ratio(resamples.sums(ours.alarms), resamples.sums(theirs.alarms)))
    share = float(ours.alarms.sum() / theirs.alarms.sum())
    return {"threshold_at_same_recall": threshold, name: share, f"{name}_low": low, f"{name}_high": high}
