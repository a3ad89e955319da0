"""Who is served worse? The same figures in every group of patients that is large enough to judge."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd

from models.alarms.timeline import Watch, before_onset
from models.evaluation.calibration import slope, slope_draws
from models.evaluation.discrimination import discrimination, discrimination_draws
from models.statistics.bootstrap import Resamples, bounds

# Below so many patients with an event, or without one, a figure would say more of chance than of the group. Twenty is ours;
# for comparison, calibration curves are called unstable below 200 events (Van Calster B, et al. J Clin Epidemiol
# 2016;74:167-176): intervals are shown, so that a reader sees how little twenty say.
MIN_PATIENTS: Final = 20
UNKNOWN: Final = "unknown"


def groups(rows: pd.DataFrame) -> pd.DataFrame:
    """The groups that each index time belongs to.

    Args:
        rows: ``subject_id, index_time, start, end`` (of monitoring), ``age`` (years), ``sex`` (0 female, 1 male), ``unit``.

    Returns:
        The same index; one column a way of grouping, named as a reader sees it, ordered categories within. ``hours so far`` is
        known at the index time. The final length of stay is not: it is named retrospective, and must not be acted on.
    """
    stay, so_far = (_hours(rows[until] - rows["start"]) for until in ("end", "index_time"))
    unit = rows["unit"].astype("string").fillna(UNKNOWN)
    found = pd.DataFrame(
        {
            "age, years": _bands(rows["age"], [45, 65, 80], ["under 45", "45-64", "65-79", "80 and over"]),
            "sex": pd.Categorical(
                rows["sex"].map({0: "female", 1: "male"}).astype("string").fillna(UNKNOWN), ["female", "male", UNKNOWN]
            ),
            "unit": pd.Categorical(unit, [*sorted(set(unit) - {UNKNOWN}), UNKNOWN]),
            "hours so far": _bands(so_far, [12, 24, 48], ["0-12", "12-24", "24-48", "48 and over"]),
        },
        index=rows.index,
    )
    first, second = (float(cut) for cut in np.quantile(stay[~rows["subject_id"].duplicated()], [1 / 3, 2 / 3]).round())
    if first < second:
        names = [f"under {first:g} h", f"{first:g} to {second:g} h", f"{second:g} h and over"]
        found["final length of stay, in retrospect"] = _bands(stay, [first, second], names)
    return found


def subgroups(frame: pd.DataFrame, membership: pd.DataFrame, threshold: float | None, *, seed: int) -> pd.DataFrame:
    """Every figure in every group.

    Alarms are replayed over whole stays and counted in the group of the hour they sound in; an onset belongs to the group of
    the last hour before it. Patients with an event are those with a positive label in the group.

    Args:
        frame: as for :func:`models.evaluation.judge`.
        membership: of the same index: one column a way of grouping, categorical (:func:`groups`).
        threshold: the frozen alarm threshold; None where the question is asked once a stay.
        seed: of the bootstrap.

    Returns:
        One row a group, the first everybody: ``by, group, patients, events, index_times, prevalence, enough`` and, where there
        are enough, ``auroc, observed_expected`` (1 is right, above 1 the risk is too low), ``calibration_slope`` and, with a
        threshold, ``event_recall, alarm_precision, alarms_per_patient_day``, each with ``_low`` and ``_high`` (95 %).
    """
    watched = before_onset(frame)
    watch = Watch.of(watched)
    labelled = frame["label"].notna()
    rows = []
    for by, group, members in each(membership):
        judged = frame[labelled & members]
        sizes = counted(judged)
        row = {"by": by, "group": group, **sizes}
        if sizes["enough"]:
            row |= _figures(judged, seed)
        if sizes["enough"] and threshold is not None:
            count = watch.count(threshold, members[watched.index].to_numpy(bool))
            alarm = count.figures() | count.bounds(count.draws(count.resamples(seed)))
            row |= {name: value for name, value in alarm.items() if not name.startswith("lead_time")}
        if sizes["index_times"]:
            rows.append(row)
    return pd.DataFrame(rows)


def each(membership: pd.DataFrame) -> Iterator[tuple[str, str, "pd.Series[bool]"]]:
    """How the rows are grouped, the group's name, and its rows; everybody first."""
    yield "all", "everybody", pd.Series(True, index=membership.index)
    for by in membership:
        for group in membership[by].cat.categories:
            yield str(by), str(group), membership[by] == group


def counted(judged: pd.DataFrame) -> dict[str, float | bool]:
    """``patients, events, index_times, prevalence`` of a group's labelled rows, and whether they are ``enough`` to judge."""
    with_event = judged.groupby("subject_id")["label"].max()
    events = int((with_event == 1).sum())
    return {
        "patients": len(with_event),
        "events": events,
        "index_times": len(judged),
        "prevalence": float(judged["label"].mean()) if len(judged) else float("nan"),
        "enough": events >= MIN_PATIENTS and len(with_event) - events >= MIN_PATIENTS,
    }


def _figures(judged: pd.DataFrame, seed: int) -> dict[str, float]:
    label, probability = judged["label"].to_numpy(float), judged["probability"].to_numpy(float)
    resamples = Resamples.of(judged["subject_id"], seed)
    draws = {
        "auroc": discrimination_draws(label, probability, resamples)["auroc"],
        "observed_expected": resamples.sums(label) / resamples.sums(probability),
        "calibration_slope": slope_draws(label, probability, resamples),
    }
    return {
        "auroc": discrimination(label, probability)["auroc"],
        "observed_expected": float(label.sum() / probability.sum()),
        "calibration_slope": slope(label, probability),
        **bounds(draws),
    }


def _hours(duration: "pd.Series[pd.Timedelta]") -> "pd.Series[float]":
    return duration.dt.total_seconds() / 3600


def _bands(value: "pd.Series[float]", cuts: list[float], names: list[str]) -> "pd.Categorical[str]":
    """Bands closed on the left; what is missing is unknown."""
    band = np.array([*names, UNKNOWN])[np.where(value.isna(), len(names), np.searchsorted(cuts, value, side="right"))]
    return pd.Categorical(band, [*names, UNKNOWN])
