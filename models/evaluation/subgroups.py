"""Subgroups: the same metrics in every group of patients that is large enough to evaluate."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd

from vigil.models.alarms.timeline import AlarmTimeline, rows_before_onset
from vigil.models.evaluation.calibration import fit_slope, resample_slope
from vigil.models.evaluation.discrimination import measure_discrimination, resample_discrimination
from vigil.models.statistics.bootstrap import Resamples, percentile_bounds

# The fewest patients with an event, and without one, for which a metric shows more than chance. Twenty is our choice. For
# comparison, calibration curves are unstable below 200 events (Van Calster B, et al. J Clin Epidemiol 2016;74:167-176).
# Intervals are always shown, so that a reader sees how uncertain twenty are.
MIN_PATIENTS: Final = 20
UNKNOWN: Final = "unknown"


def assign_groups(rows: pd.DataFrame) -> pd.DataFrame:
    """Assign each index time to its groups.

    Args:
        rows: ``subject_id, index_time``, ``start, end`` (of monitoring), ``age`` (years), ``sex`` (0 female, 1 male), ``unit``.

    Returns:
        A table with the index of ``rows`` and one categorical column per grouping, named for readers. ``hours so far`` is known
        at the index time. The final length of stay is not: its name says "in retrospect", and it must not be acted on.
    """
    stay, hours_so_far = (_hours(rows[until] - rows["start"]) for until in ("end", "index_time"))
    unit = rows["unit"].astype("string").fillna(UNKNOWN)
    assigned = pd.DataFrame(
        {
            "age, years": sort_into_bands(rows["age"], [45, 65, 80], ["under 45", "45-64", "65-79", "80 and over"]),
            "sex": pd.Categorical(
                rows["sex"].map({0: "female", 1: "male"}).astype("string").fillna(UNKNOWN), ["female", "male", UNKNOWN]
            ),
            "unit": pd.Categorical(unit, [*sorted(set(unit) - {UNKNOWN}), UNKNOWN]),
            "hours so far": sort_into_bands(hours_so_far, [12, 24, 48], ["0-12", "12-24", "24-48", "48 and over"]),
        },
        index=rows.index,
    )
    lower, upper = (float(cut) for cut in np.quantile(stay[~rows["subject_id"].duplicated()], [1 / 3, 2 / 3]).round())
    if lower < upper:
        names = [f"under {lower:g} h", f"{lower:g} to {upper:g} h", f"{upper:g} h and over"]
        assigned["final length of stay, in retrospect"] = sort_into_bands(stay, [lower, upper], names)
    return assigned


def measure_subgroups(frame: pd.DataFrame, membership: pd.DataFrame, threshold: float | None, *, seed: int) -> pd.DataFrame:
    """Compute every metric in every group.

    Alarms are replayed over whole stays. An alarm belongs to the group of the hour in which it sounds, an onset to the group of
    the last hour before it. A patient with an event is one with a positive label in the group.

    Args:
        frame: as for :func:`vigil.models.evaluation.evaluate_predictions`.
        membership: a table with the same index and one categorical column per grouping (:func:`assign_groups`).
        threshold: the frozen alarm threshold; None for tasks with one prediction per stay.
        seed: seed of the bootstrap.

    Returns:
        One row per group; the first is all patients: ``by, group, patients, events, index_times, prevalence, enough``. Where
        there are enough patients, also ``auroc, observed_expected`` (1 is right; above 1 the risk is too low) and
        ``calibration_slope``. With a threshold also ``event_recall, alarm_precision, alarms_per_patient_day``. Each metric has
        ``_low`` and ``_high`` (95 %).
    """
    before = rows_before_onset(frame)
    timeline = AlarmTimeline.from_frame(before)
    labelled = frame["label"].notna()
    rows = []
    for by, group, members in iterate_groups(membership):
        evaluated = frame[labelled & members]
        sizes = count_group(evaluated)
        row = {"by": by, "group": group, **sizes}
        if sizes["enough"]:
            row |= _measure_group(evaluated, seed)
        if sizes["enough"] and threshold is not None:
            count = timeline.count(threshold, members[before.index].to_numpy(bool))
            alarm = count.figures() | count.bounds(count.draws(count.resamples(seed)))
            row |= {name: value for name, value in alarm.items() if not name.startswith("lead_time")}
        if sizes["index_times"]:
            rows.append(row)
    return pd.DataFrame(rows)


def iterate_groups(membership: pd.DataFrame) -> Iterator[tuple[str, str, "pd.Series[bool]"]]:
    """Yield for each group the grouping, the name of the group and a mask of its rows; all patients come first."""
    yield "all", "everybody", pd.Series(True, index=membership.index)
    for by in membership:
        for group in membership[by].cat.categories:
            yield str(by), str(group), membership[by] == group


def count_group(rows: pd.DataFrame) -> dict[str, float | bool]:
    """Count ``patients, events, index_times, prevalence`` of a group's labelled rows.

    ``enough`` states whether the group has :data:`MIN_PATIENTS` with an event and as many without.
    """
    with_event = rows.groupby("subject_id")["label"].max()
    events = int((with_event == 1).sum())
    return {
        "patients": len(with_event),
        "events": events,
        "index_times": len(rows),
        "prevalence": float(rows["label"].mean()) if len(rows) else float("nan"),
        "enough": events >= MIN_PATIENTS and len(with_event) - events >= MIN_PATIENTS,
    }


def _measure_group(rows: pd.DataFrame, seed: int) -> dict[str, float]:
    """Return the metrics of one group that do not depend on alarms, with 95 % intervals."""
    label, probability = rows["label"].to_numpy(float), rows["probability"].to_numpy(float)
    resamples = Resamples.draw(rows["subject_id"], seed)
    draws = {
        "auroc": resample_discrimination(label, probability, resamples)["auroc"],
        "observed_expected": resamples.sums(label) / resamples.sums(probability),
        "calibration_slope": resample_slope(label, probability, resamples),
    }
    return {
        "auroc": measure_discrimination(label, probability)["auroc"],
        "observed_expected": float(label.sum() / probability.sum()),
        "calibration_slope": fit_slope(label, probability),
        **percentile_bounds(draws),
    }


def _hours(duration: "pd.Series[pd.Timedelta]") -> "pd.Series[float]":
    return duration.dt.total_seconds() / 3600


def sort_into_bands(value: "pd.Series[float]", cuts: list[float], names: list[str]) -> "pd.Categorical[str]":
    """Sort values into bands that are closed on the left; a missing value is in the band ``unknown``."""
    band = np.array([*names, UNKNOWN])[np.where(value.isna(), len(names), np.searchsorted(cuts, value, side="right"))]
    return pd.Categorical(band, [*names, UNKNOWN])
