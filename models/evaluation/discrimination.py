"""Does the model rank those who deteriorate above those who do not?"""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

RESAMPLES: Final = 200


def discrimination(label: NDArray[np.float64], probability: NDArray[np.float64]) -> dict[str, float]:
    """AUROC and AUPRC (average precision) by index time, and the prevalence AUPRC is to be read against."""
    return {
        "auroc": float(roc_auc_score(label, probability)),
        "auprc": float(average_precision_score(label, probability)),
        "prevalence": float(np.mean(label)),
    }


def intervals(
    label: NDArray[np.float64], probability: NDArray[np.float64], subject_id: "pd.Series[str]", *, seed: int
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals of AUROC and AUPRC by a bootstrap over patients.

    Hours of one patient are not independent, so whole patients are drawn (Efron B, Tibshirani R. An introduction to the
    bootstrap. 1993, ch. 8).
    """
    codes, subjects = pd.factorize(subject_id)
    generator = np.random.default_rng(seed)
    draws: dict[str, list[float]] = {"auroc": [], "auprc": []}
    for _ in range(RESAMPLES):
        times_drawn = np.bincount(generator.integers(len(subjects), size=len(subjects)), minlength=len(subjects))
        weight = times_drawn[codes]
        drawn = weight > 0
        if len(np.unique(label[drawn])) < 2:  # a resample without an event has no AUROC
            continue
        draws["auroc"].append(roc_auc_score(label[drawn], probability[drawn], sample_weight=weight[drawn]))
        draws["auprc"].append(average_precision_score(label[drawn], probability[drawn], sample_weight=weight[drawn]))
    return {name: (float(np.quantile(values, 0.025)), float(np.quantile(values, 0.975))) for name, values in draws.items()}
