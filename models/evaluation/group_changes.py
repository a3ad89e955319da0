"""Group changes: what one model gains or loses against another in every group of patients, on the same resamples."""

from typing import Any

import numpy as np
import pandas as pd

from vigil.models.alarms.timeline import AlarmCounts, AlarmTimeline, rows_before_onset
from vigil.models.evaluation.comparison import EvaluationSet
from vigil.models.evaluation.discrimination import measure_discrimination, resample_discrimination
from vigil.models.evaluation.subgroups import count_group, iterate_groups
from vigil.models.statistics.bootstrap import Float64, Resamples, percentile_interval, ratio

Groups = list[dict[str, Any]]


def compare_groups(held_out: EvaluationSet, *, alarms: bool) -> Groups:
    """Compare two models in every group of patients; all patients come first.

    Args:
        held_out: with two candidates: first the challenger, then the champion.
        alarms: whether to compare event recall too.

    Returns:
        One row per group: ``by, group, patients, events, enough``. Where there are enough patients, also ``auroc`` and
        ``event_recall`` of the challenger, the same of the champion as ``<metric>_champion``, and the paired difference
        ``<metric>_change`` with ``_low`` and ``_high`` (95 %).
    """
    index_before_onset = rows_before_onset(held_out.rows).index
    challenger, champion = held_out.candidates.values()
    timelines = [AlarmTimeline.from_frame(held_out.frame(name)) for name in held_out.candidates]
    rows = []
    membership = held_out.groups if held_out.groups is not None else pd.DataFrame(index=held_out.rows.index)
    for by, group, members in iterate_groups(membership):
        evaluated = members.to_numpy(bool) & held_out.labelled
        rows_of_group = held_out.rows[evaluated]
        sizes = count_group(rows_of_group)
        row = {"by": by, "group": group, **{size: sizes[size] for size in ("patients", "events", "enough")}}
        if row["enough"]:
            label, resamples = (
                rows_of_group["label"].to_numpy(np.float64),
                Resamples.draw(rows_of_group["subject_id"], held_out.seed),
            )
            row |= _compare_auroc(label, challenger.risk[evaluated], champion.risk[evaluated], resamples)
        if row["enough"] and alarms:
            in_group = members[index_before_onset].to_numpy(bool)
            challenger_alarms, champion_alarms = (
                timeline.count(candidate.threshold, in_group)
                for timeline, candidate in zip(timelines, (challenger, champion), strict=True)
            )
            row |= _compare_event_recall(challenger_alarms, champion_alarms, held_out.seed)
        if evaluated.any():
            rows.append(row)
    return rows


def _compare_auroc(label: Float64, challenger: Float64, champion: Float64, resamples: Resamples) -> dict[str, float]:
    """Compare the AUROC of both models."""
    ours, theirs = (measure_discrimination(label, risk)["auroc"] for risk in (challenger, champion))
    our_draws, their_draws = (resample_discrimination(label, risk, resamples)["auroc"] for risk in (challenger, champion))
    return _describe_change("auroc", ours, theirs, our_draws - their_draws)


def _compare_event_recall(challenger: AlarmCounts, champion: AlarmCounts, seed: int) -> dict[str, float]:
    """Compare the event recall of both models at their thresholds."""
    resamples = challenger.resamples(seed)
    ours, theirs = (~np.isnan(count.lead_hours) for count in (challenger, champion))
    draws = ratio(resamples.sums(ours), resamples.sums(challenger.event)) - ratio(
        resamples.sums(theirs), resamples.sums(champion.event)
    )
    recall, recall_champion = (count.figures()["event_recall"] for count in (challenger, champion))
    return _describe_change("event_recall", recall, recall_champion, draws)


def _describe_change(metric: str, ours: float, theirs: float, draws: Float64) -> dict[str, float]:
    """Return both values of a metric and their difference with its 95 % interval."""
    low, high = percentile_interval(draws)
    change = f"{metric}_change"
    return {metric: ours, f"{metric}_champion": theirs, change: ours - theirs, f"{change}_low": low, f"{change}_high": high}
