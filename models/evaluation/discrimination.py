"""Discrimination: how well a risk ranks index times before an event above the others."""

import numba
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from vigil.models.statistics.bootstrap import Float64, Int64, Resamples


def measure_discrimination(label: Float64, probability: Float64) -> dict[str, float]:
    """Return AUROC, AUPRC (average precision) and prevalence, which is the AUPRC of a model without information.

    Args:
        label: 0 or 1 per index time, shape (n_rows,).
        probability: risk per index time, shape (n_rows,).

    >>> import numpy as np
    >>> measure_discrimination(np.array([0.0, 0.0, 0.0, 1.0]), np.array([0.1, 0.2, 0.3, 0.4]))
    {'auroc': 1.0, 'auprc': 1.0, 'prevalence': 0.25}
    """
    return {
        "auroc": float(roc_auc_score(label, probability)),
        "auprc": float(average_precision_score(label, probability)),
        "prevalence": float(np.mean(label)),
    }


def resample_discrimination(label: Float64, probability: Float64, resamples: Resamples) -> dict[str, Float64]:
    """Return the metrics of :func:`measure_discrimination` in each resample, each of shape (RESAMPLES,).

    A value is NaN where the resample holds one class only. The rows are sorted once, because a resample changes their weights
    and not their order.
    """
    order = np.argsort(-probability, kind="stable")
    ranked = probability[order]
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    areas = _areas_under_curves(label[order] > 0, last_of_tie, resamples.patient[order], resamples.times)
    rows, events = resamples.sums(np.ones_like(label)), resamples.sums(label)
    return {"auroc": areas[:, 0], "auprc": areas[:, 1], "prevalence": events / rows}


def roc_and_pr_curves(label: Float64, probability: Float64, points: int = 101) -> dict[str, list[float]]:
    """Return the ROC and the precision-recall curve: ``false_positive_rate, recall, precision``.

    Thresholds run from the highest to the lowest. Precision is NaN where no row reaches the threshold.

    Args:
        label: 0 or 1 per row, shape (n_rows,).
        probability: risk per row, shape (n_rows,).
        points: about how many points to keep, evenly along the ROC curve.
    """
    false_positives, recall, _ = roc_curve(label, probability, drop_intermediate=False)
    distance = false_positives + recall
    chosen = np.unique(np.searchsorted(distance, np.linspace(0, distance[-1], points)).clip(max=len(distance) - 1))
    prevalence = float(np.mean(label))
    flagged = recall * prevalence + false_positives * (1 - prevalence)
    with np.errstate(invalid="ignore"):
        precision = recall * prevalence / flagged
    return {
        "false_positive_rate": false_positives[chosen].tolist(),
        "recall": recall[chosen].tolist(),
        "precision": precision[chosen].tolist(),
    }


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _areas_under_curves(
    event: NDArray[np.bool_], last_of_tie: NDArray[np.bool_], patient: Int64, times: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Return AUROC (trapezoids) and average precision (steps) per resample; rows descend by risk, weights are drawn counts."""
    areas = np.full((len(times), 2), np.nan)
    for resample in range(len(times)):
        weight = times[resample]
        true = false = true_before = false_before = 0
        under_roc = under_pr = 0.0
        for row in range(len(event)):
            if event[row]:
                true += weight[patient[row]]
            else:
                false += weight[patient[row]]
            if last_of_tie[row]:
                under_roc += (false - false_before) * 0.5 * (true + true_before)
                if true > true_before:
                    under_pr += (true - true_before) * true / (true + false)
                true_before, false_before = true, false
        if true > 0 and false > 0:
            areas[resample, 0] = under_roc / (float(true) * float(false))
            areas[resample, 1] = under_pr / true
    return areas
