"""Can the probability be taken at its word?"""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from models.risk_model import log_odds

Float64 = NDArray[np.float64]
BINS: Final = 10


def calibration(label: Float64, probability: Float64) -> dict[str, float]:
    """Brier score, calibration slope, calibration-in-the-large and expected calibration error.

    ``calibration_slope``: of a logistic regression of the label on the log-odds; 1 is right, below 1 too extreme.
    ``calibration_intercept``: shift of the log-odds that makes the mean risk equal the event rate, slope held at 1; 0 is
    right. ``ece``: mean |observed - predicted| over ten groups of equal size. (Van Calster B, et al. Calibration: the
    Achilles heel of predictive analytics. BMC Med 2019;17:230.)
    """
    margin = log_odds(probability)
    slope = LogisticRegression(C=np.inf).fit(margin[:, None], label).coef_[0, 0]
    intercept = brentq(lambda shift: float(np.mean(1 / (1 + np.exp(-margin - shift))) - np.mean(label)), -20, 20)
    groups = reliability(label, probability)
    gap = (groups["observed"] - groups["predicted"]).abs()
    return {
        "brier": float(brier_score_loss(label, probability)),
        "calibration_slope": float(slope),
        "calibration_intercept": float(intercept),
        "ece": float((gap * groups["n"]).sum() / groups["n"].sum()),
    }


def reliability(label: Float64, probability: Float64) -> pd.DataFrame:
    """Mean predicted and observed risk in ten groups of equal size by predicted risk: ``predicted, observed, n``."""
    group = (pd.Series(probability).rank(method="first") * BINS / (len(probability) + 1)).astype(int)
    frame = pd.DataFrame({"predicted": probability, "observed": label})
    return frame.groupby(group).mean().assign(n=frame.groupby(group).size()).reset_index(drop=True)
