"""Does the model rank those who deteriorate above those who do not?"""

import numba
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from models.statistics.bootstrap import Float64, Int64, Resamples


def discrimination(label: Float64, probability: Float64) -> dict[str, float]:
    """AUROC and AUPRC (average precision) by index time, and the prevalence AUPRC is to be read against."""
    return {
        "auroc": float(roc_auc_score(label, probability)),
        "auprc": float(average_precision_score(label, probability)),
        "prevalence": float(np.mean(label)),
    }


def discrimination_draws(label: Float64, probability: Float64, resamples: Resamples) -> dict[str, Float64]:
    """The same in each resample, NaN where one holds no event; each of shape (RESAMPLES,).

    The rows are sorted once, since a resample changes how much each counts, not their order.
    """
    order = np.argsort(-probability, kind="stable")
    ranked = probability[order]
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    areas = _areas(label[order] > 0, last_of_tie, resamples.patient[order], resamples.times)
    rows, events = resamples.sums(np.ones_like(label)), resamples.sums(label)
    return {"auroc": areas[:, 0], "auprc": areas[:, 1], "prevalence": events / rows}


def curves(label: Float64, probability: Float64, points: int = 101) -> dict[str, list[float]]:
    """Both curves for a plot: ``false_positive_rate, recall, precision`` at thresholds from the highest down.

    Thinned to about so many points, evenly along the ROC curve; precision is NaN where nothing is above the threshold.
    """
    false_positives, recall, _ = roc_curve(label, probability, drop_intermediate=False)
    along = false_positives + recall
    kept = np.unique(np.searchsorted(along, np.linspace(0, along[-1], points)).clip(max=len(along) - 1))
    prevalence = float(np.mean(label))
    above = recall * prevalence + false_positives * (1 - prevalence)
    with np.errstate(invalid="ignore"):
        precision = recall * prevalence / above
    return {
        "false_positive_rate": false_positives[kept].tolist(),
        "recall": recall[kept].tolist(),
        "precision": precision[kept].tolist(),
    }


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _areas(
    event: NDArray[np.bool_], last_of_tie: NDArray[np.bool_], patient: Int64, times: NDArray[np.int32]
) -> NDArray[np.float64]:
    """AUROC (trapezoids) and average precision (steps) of rows from the highest risk down, each counting as often as drawn."""
    found = np.full((len(times), 2), np.nan)
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
            found[resample, 0] = under_roc / (float(true) * float(false))
            found[resample, 1] = under_pr / true
    return found
