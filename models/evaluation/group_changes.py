"""Two models in every group of patients: what one gains or loses beside the other, paired on the same resamples."""

from typing import Any

import numpy as np
import pandas as pd

from models.alarms.timeline import Count, Watch, before_onset
from models.evaluation.comparison import HeldOut
from models.evaluation.discrimination import discrimination, discrimination_draws
from models.evaluation.subgroups import counted, each
from models.statistics.bootstrap import Float64, Resamples, percentile, ratio

Groups = list[dict[str, Any]]


def by_group(held_out: HeldOut, *, alarms: bool) -> Groups:
    """Both models in every group of patients, everybody first.

    Args:
        held_out: its two candidates are the challenger and, second, the champion.
        alarms: whether event recall is compared too.

    Returns:
        One row a group: ``by, group, patients, events, enough`` and, where there are enough, ``auroc`` and ``event_recall`` of
        the challenger, ``..._champion``, and their paired difference ``..._change`` with ``_low`` and ``_high`` (95 %).
    """
    watched = before_onset(held_out.rows).index
    challenger, champion = held_out.candidates.values()
    watches = [Watch.of(held_out.frame(name)) for name in held_out.candidates]
    rows = []
    membership = held_out.groups if held_out.groups is not None else pd.DataFrame(index=held_out.rows.index)
    for by, group, members in each(membership):
        judged = members.to_numpy(bool) & held_out.labelled
        of_group = held_out.rows[judged]
        sizes = counted(of_group)
        row = {"by": by, "group": group, **{size: sizes[size] for size in ("patients", "events", "enough")}}
        if row["enough"]:
            label, resamples = of_group["label"].to_numpy(np.float64), Resamples.of(of_group["subject_id"], held_out.seed)
            row |= _ranked(label, challenger.risk[judged], champion.risk[judged], resamples)
        if row["enough"] and alarms:
            in_group = members[watched].to_numpy(bool)
            now, before = (
                watch.count(at.threshold, in_group) for watch, at in zip(watches, (challenger, champion), strict=True)
            )
            row |= _warned(now, before, held_out.seed)
        if judged.any():
            rows.append(row)
    return rows


def _ranked(label: Float64, challenger: Float64, champion: Float64, resamples: Resamples) -> dict[str, float]:
    ours, theirs = (discrimination(label, risk)["auroc"] for risk in (challenger, champion))
    our_draws, their_draws = (discrimination_draws(label, risk, resamples)["auroc"] for risk in (challenger, champion))
    return _change("auroc", ours, theirs, our_draws - their_draws)


def _warned(challenger: Count, champion: Count, seed: int) -> dict[str, float]:
    resamples = challenger.resamples(seed)
    ours, theirs = (~np.isnan(count.lead_hours) for count in (challenger, champion))
    draws = ratio(resamples.sums(ours), resamples.sums(challenger.event)) - ratio(
        resamples.sums(theirs), resamples.sums(champion.event)
    )
    recall, recall_champion = (count.figures()["event_recall"] for count in (challenger, champion))
    return _change("event_recall", recall, recall_champion, draws)


def _change(metric: str, ours: float, theirs: float, draws: Float64) -> dict[str, float]:
    low, high = percentile(draws)
    change = f"{metric}_change"
    return {metric: ours, f"{metric}_champion": theirs, change: ours - theirs, f"{change}_low": low, f"{change}_high": high}
