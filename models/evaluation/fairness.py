"""Fairness: who is flagged, missed and flagged in vain, by groups of patients that users name, and calibration of each group.

Metrics are those of fairlearn's ``MetricFrame`` (Weerts H, et al. Fairlearn: assessing and improving fairness of AI systems. J
Mach Learn Res 2023;24(257):1-8). A row is *flagged* if the risk of the model alone reaches its frozen threshold. No one metric
is fairness: where prevalences differ, equal calibration and equal error rates exclude each other (Chouldechova A. Fair
prediction with disparate impact. Big Data 2017;5:153-163).
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.features.errors import VigilError
from vigil.models.evaluation.calibration import measure_reliability
from vigil.models.evaluation.discrimination import measure_discrimination, resample_discrimination
from vigil.models.evaluation.subgroups import UNKNOWN, assign_groups, count_group, sort_into_bands
from vigil.models.statistics.bootstrap import Float64, Resamples, percentile_interval, ratio
from vigil.models.statistics.proportions import proportion_limits

SHARES: Final = ("selection_rate", "true_positive_rate", "false_positive_rate", "precision")
METRICS: Final = (*SHARES, "auroc")
# Counts of fewer might identify patients, so that no page shows them. Centers for Medicare and Medicaid Services. CMS cell size
# suppression policy. 2020: no cell of 1 to 10 is displayed.
SMALLEST_CELL: Final = 11

_STANDARD: Final = {"age_band": "age, years", "sex": "sex", "ward": "unit", "unit": "unit"}  # groupings that are made already
_NO_ATTRIBUTES: Final = {"subject_id", "start", "end", "unit_admitted_at", "hospital_admitted_at", "index_time", "age"}
_COMPARED: Final = [
    f"{metric}_{kind}{end}" for metric in METRICS for kind in ("difference", "ratio") for end in ("", "_low", "_high")
]
_MOST_VALUES: Final = 6  # of a number that is not divided into quarters
_FIFTHS: Final = 5  # groups by risk in a calibration plot of a few patients


class AttributeNameError(VigilError):
    """An attribute that the stays do not have."""


def list_attributes(stays: pd.DataFrame) -> list[str]:
    """Return the attributes by which patients can be grouped, the standard ones first."""
    own = [str(name) for name in stays if name not in _NO_ATTRIBUTES | {"sex", "unit"}]
    return ["sex", *(["age_band"] if "age" in stays else []), "ward", *own]


def assign_attributes(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Assign each index time to its group of each attribute.

    Args:
        rows: ``subject_id, index_time`` and the columns of stays, other attributes among them.
        by: names of attributes: ``sex``, ``age_band``, ``ward``, or any other column.

    Returns:
        A table with the index of ``rows`` and one categorical column per attribute. A number with more than
        :data:`_MOST_VALUES` values is divided into quarters of the rows; a missing value is ``unknown``.

    Raises:
        AttributeNameError: there is no such attribute.
    """
    known = list_attributes(rows)
    if missing := [name for name in by if name not in {*known, "unit"}]:
        raise AttributeNameError(
            f"--by {', '.join(missing)}: no such attribute; expected some of {', '.join(known)}; others can be brought by "
            "--attributes FILE, or by attributes under [stays] of a mapping"
        )
    standard = assign_groups(rows)
    assigned = {name: standard[_STANDARD[name]] if name in _STANDARD else _sort_into_groups(rows[name]) for name in by}
    return pd.DataFrame(assigned, index=rows.index)


def measure_fairness(frame: pd.DataFrame, membership: pd.DataFrame, threshold: float, *, seed: int) -> pd.DataFrame:
    """Compute the metrics of every group, and how far they are from those of the largest group of the attribute.

    Shares have exact 95 % limits by patient (:func:`vigil.models.statistics.proportions.proportion_limits`), which also hold
    for a few patients. Intervals of AUROC, differences and ratios are percentiles of a bootstrap of patients.

    Args:
        frame: ``subject_id, label, probability``; rows without a label count nowhere.
        membership: a table with the same index and one categorical column per attribute (:func:`assign_attributes`).
        threshold: probability from which a row is flagged.
        seed: of the bootstrap.

    Returns:
        One row per group, those with the lowest ``true_positive_rate`` first, groups too small to judge last: ``by, group,
        patients, events`` (patients with an event), ``index_times, prevalence, enough``, and ``reference``: whether it is the
        group that the others are compared with. ``selection_rate`` (share flagged), ``true_positive_rate`` (of rows before an
        event), ``false_positive_rate`` (of rows without), ``precision`` (share of flagged rows before an event) and ``auroc``:
        each with ``_low, _high``, and with ``_difference`` and ``_ratio`` to the reference, which have ``_low, _high`` too. A
        value is NaN where it is not defined. Groups too small to judge have shares with their limits, and no more.
    """
    labelled = frame[frame["label"].notna()]
    resamples = Resamples.draw(labelled["subject_id"], seed)
    rows: list[dict[str, Any]] = []
    for by in membership:
        rows += _measure_attribute(str(by), labelled, membership[by].loc[labelled.index], threshold, resamples)
    return pd.DataFrame(rows)


def measure_group_calibration(frame: pd.DataFrame, membership: pd.DataFrame) -> pd.DataFrame:
    """Compute observed frequencies by predicted risk in every group that is large enough to judge.

    Args:
        frame, membership: as :func:`measure_fairness` takes them.

    Returns:
        A row for each group and fifth of its rows by risk: ``by, group, predicted, observed, observed_low, observed_high, n``.
    """
    labelled = frame[frame["label"].notna()]
    columns = ["by", "group", "predicted", "observed", "observed_low", "observed_high", "n"]
    parts = [pd.DataFrame(columns=columns)]
    for by in membership:
        for group, members in labelled.groupby(membership[by].loc[labelled.index], observed=True):
            if count_group(members)["enough"]:
                label, probability = (members[name].to_numpy(np.float64) for name in ("label", "probability"))
                points = measure_reliability(label, probability, members["subject_id"], groups=_FIFTHS)
                parts.append(points.assign(by=str(by), group=str(group))[columns])
    return pd.concat(parts[1:] or parts, ignore_index=True)


def hide_small_cells(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of :func:`measure_fairness` as a page may show them.

    A count under :data:`SMALLEST_CELL` is None. So is every figure of a group in which so few patients have an event, or have
    none.
    """
    shown = []
    for row in rows:
        hidden = {name for name in ("patients", "events") if row[name] < SMALLEST_CELL}
        if min(row["events"], row["patients"] - row["events"]) < SMALLEST_CELL:
            hidden |= row.keys() - {"by", "group", "patients", "enough", "reference"}
        shown.append({name: None if name in hidden else value for name, value in row.items()})
    return shown


def _measure_attribute(
    by: str, labelled: pd.DataFrame, groups: "pd.Series[str]", threshold: float, resamples: Resamples
) -> list[dict[str, Any]]:
    """Return the rows of one attribute, in order."""
    names = [str(name) for name in groups.cat.categories if (groups == name).any()]
    members = {name: (groups == name).to_numpy() for name in names}
    rows = {name: {"by": by, "group": name, **count_group(labelled[members[name]]), "reference": False} for name in names}
    judged = [name for name in names if rows[name]["enough"]]
    reference = max(judged, key=lambda name: rows[name]["patients"], default=None)
    flagged = (labelled["probability"] >= threshold).to_numpy()
    points = _compute_points(labelled, flagged, groups)
    draws = {name: _draw_metrics(labelled, flagged, members[name], resamples) for name in judged}
    for name in names:
        for metric in METRICS:
            rows[name][metric] = points[metric].get(name, np.nan)
        rows[name] |= _limit_shares(labelled["label"].to_numpy(np.float64), flagged, members[name], resamples)
        if name in judged:
            rows[name]["auroc_low"], rows[name]["auroc_high"] = percentile_interval(draws[name]["auroc"])
        else:
            rows[name] |= dict.fromkeys(("auroc", "auroc_low", "auroc_high"), np.nan)
        rows[name] |= dict.fromkeys(_COMPARED, np.nan)
    for name in judged:
        rows[name]["reference"] = name == reference
        if reference is not None and name != reference:
            rows[name] |= _compare(rows[name], rows[reference], draws[name], draws[reference])
    worst_first = sorted((rows[name] for name in judged), key=lambda row: _nan_last(row["true_positive_rate"]))
    return [*worst_first, *(rows[name] for name in names if name not in judged)]


def _compute_points(labelled: pd.DataFrame, flagged: NDArray[np.bool_], groups: "pd.Series[str]") -> pd.DataFrame:
    """Return the metrics of each group by fairlearn; NaN where a group has no row to divide by."""
    from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate
    from sklearn.metrics import precision_score

    label, group = labelled["label"].astype(int).to_numpy(), groups.astype(str).to_numpy()
    shares = MetricFrame(
        metrics={
            "selection_rate": selection_rate,
            "true_positive_rate": true_positive_rate,
            "false_positive_rate": false_positive_rate,
            "precision": lambda y_true, y_pred: precision_score(y_true, y_pred, zero_division=0),
        },
        y_true=label,
        y_pred=flagged.astype(int),
        sensitive_features=group,
    ).by_group
    auroc = MetricFrame(
        metrics=_auroc, y_true=label, y_pred=labelled["probability"].to_numpy(np.float64), sensitive_features=group
    ).by_group
    counts = pd.DataFrame({"label": label, "flagged": flagged}).groupby(group).agg(["sum", "size"])
    events, size = counts["label"]["sum"], counts["label"]["size"]
    points: pd.DataFrame = shares.astype(float).assign(  # fairlearn says 0 where there is nothing to divide by
        true_positive_rate=shares["true_positive_rate"].where(events > 0),
        false_positive_rate=shares["false_positive_rate"].where(events < size),
        precision=shares["precision"].where(counts["flagged"]["sum"] > 0),
        auroc=auroc,
    )
    return points


def _auroc(label: NDArray[np.int64], probability: Float64) -> float:
    both = len(np.unique(label)) == 2
    return measure_discrimination(label.astype(float), probability)["auroc"] if both else float("nan")


def _parts(label: Float64, flagged: NDArray[np.bool_], members: NDArray[np.bool_]) -> dict[str, tuple[Float64, Float64]]:
    """Return the rows that each share counts, and the rows that it divides by."""
    positive, selected = (label == 1) & members, flagged & members
    counted: dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]] = {
        "selection_rate": (selected, members),
        "true_positive_rate": (selected & positive, positive),
        "false_positive_rate": (selected & ~positive, members & ~positive),
        "precision": (selected & positive, selected),
    }
    return {name: (above.astype(np.float64), below.astype(np.float64)) for name, (above, below) in counted.items()}


def _limit_shares(
    label: Float64, flagged: NDArray[np.bool_], members: NDArray[np.bool_], resamples: Resamples
) -> dict[str, float]:
    """Return the limits of each share."""
    limits: dict[str, float] = {}
    for name, (above, below) in _parts(label, flagged, members).items():
        _, low, high = proportion_limits(resamples.by_patient(above), resamples.by_patient(below))
        limits |= {f"{name}_low": low, f"{name}_high": high}
    return limits


def _draw_metrics(
    labelled: pd.DataFrame, flagged: NDArray[np.bool_], members: NDArray[np.bool_], resamples: Resamples
) -> dict[str, Float64]:
    """Return the metrics of a group in each resample of all patients, so that groups are compared in the same resamples."""
    label, probability = (labelled[name].to_numpy(np.float64) for name in ("label", "probability"))
    draws = {
        name: ratio(resamples.sums(above), resamples.sums(below))
        for name, (above, below) in _parts(label, flagged, members).items()
    }
    own = Resamples(resamples.patient[members], resamples.times)
    return {**draws, "auroc": resample_discrimination(label[members], probability[members], own)["auroc"]}


def _compare(
    row: Mapping[str, Any], reference: Mapping[str, Any], draws: Mapping[str, Float64], others: Mapping[str, Float64]
) -> dict[str, float]:
    """Return differences from and ratios to the reference, with their intervals."""
    compared: dict[str, float] = {}
    for name in METRICS:
        difference, quotient = row[name] - reference[name], float(ratio(row[name], reference[name]))
        for kind, value, drawn in (
            ("difference", difference, draws[name] - others[name]),
            ("ratio", quotient, ratio(draws[name], others[name])),
        ):
            low, high = percentile_interval(drawn)
            compared |= {f"{name}_{kind}": value, f"{name}_{kind}_low": low, f"{name}_{kind}_high": high}
    return compared


def _sort_into_groups(values: "pd.Series[Any]") -> "pd.Categorical[str]":
    """Sort the values of an attribute into groups; numbers may be written as texts."""
    texts = values.astype("string").str.strip()
    texts = texts.mask(texts == "")
    numbers = pd.to_numeric(texts, errors="coerce")
    if not (numbers.isna() & texts.notna()).any():
        if numbers.nunique() > _MOST_VALUES:
            cuts = sorted({float(cut) for cut in numbers.quantile([0.25, 0.5, 0.75])})
            between = [f"{low:g} to {high:g}" for low, high in pairwise(cuts)]
            names = [f"under {cuts[0]:g}", *between, f"{cuts[-1]:g} and over"]
            return sort_into_bands(numbers.astype("float64"), cuts, names)
        texts = numbers.map("{:g}".format, na_action="ignore").astype("string")
    texts = texts.fillna(UNKNOWN)
    return pd.Categorical(texts, [*sorted(set(texts) - {UNKNOWN}), UNKNOWN])


def _nan_last(value: Any) -> float:
    return float("inf") if np.isnan(value) else value
