"""Recalibration: the champion's ranks with probabilities of today; fitted on half of the patients, judged on the others."""

import copy
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from scipy import stats

from features.errors import VigilError
from models.cohort import by_patient, folds
from models.evaluation.calibration import calibration, line, shift
from models.promotion.gates import HIGHEST_SLOPE, LOWEST_SLOPE, MOST_SHIFT
from models.statistics.bootstrap import Float64, Resamples, percentile, ratio
from models.training.risk_model import RiskModel, from_log_odds, log_odds
from models.training.venn_abers import VennAbers

SLOPE_ALPHA: Final = 0.05  # of the likelihood ratio test below which the slope is fitted too


class RecalibrationError(VigilError):
    """There are too few outcomes to recalibrate on."""


@dataclass(frozen=True)
class Recalibrated:
    """A model and what speaks for it.

    Attributes:
        model: the champion with other probabilities; ranks, and so alarms, are the same.
        shift, slope: new log-odds = shift + slope * old ones.
        patients, events: of the half that it was judged on.
        before, after: ``log_loss, calibration_slope, calibration_intercept`` of both on that half.
        gain: log loss that it saves there, with ``gain_low`` and ``gain_high`` (95 %, patients drawn anew).
        valid: whether it may take the champion's place.
    """

    model: RiskModel
    shift: float
    slope: float
    patients: int
    events: int
    before: dict[str, float]
    after: dict[str, float]
    gain: float
    gain_low: float
    gain_high: float
    valid: bool

    def risk(self, probability: Float64) -> Float64:
        """What the champion's probability becomes, any shape."""
        return from_log_odds(self.shift + self.slope * log_odds(probability))

    def as_dict(self) -> dict[str, object]:
        """For a record: all but the model."""
        return {name: value for name, value in vars(self).items() if name != "model"}


def recalibrate(model: RiskModel, judged: pd.DataFrame, *, seed: int) -> Recalibrated:
    """Fit intercept, and slope where the data ask for it, on half of the patients, and judge the result on the other half.

    The intercept first, since it needs the fewest events (Steyerberg EW, et al. Validation and updating of predictive logistic
    regression models. Stat Med 2004;23:2567-2586); the slope where a likelihood ratio test rejects that it is 1 (Vergouwe Y, et
    al. A closed testing procedure to select an appropriate method to update prediction models. Stat Med 2017;36:4529-4539).
    Valid where log loss on the other half is lower with 95 % confidence, and slope and intercept there are within the limits of
    the promotion gate.

    Args:
        model: the champion.
        judged: ``subject_id, probability`` (the champion's), ``label``.
        seed: of the halves.

    Raises:
        RecalibrationError: a half has no event, or nobody without.
    """
    label, risk = judged["label"].to_numpy(np.float64), judged["probability"].to_numpy(np.float64)
    half = folds(judged["subject_id"], label == 1, 2, seed=seed)
    learn, judge = half == 0, half == 1
    if any(len(np.unique(label[part])) < 2 for part in (learn, judge)):
        raise RecalibrationError("outcomes: half of the patients hold no event, or nothing else; wait for more outcomes")
    intercept, slope = _line(label[learn], log_odds(risk[learn]))
    after = from_log_odds(intercept + slope * log_odds(risk))
    resamples = Resamples.of(judged.loc[judge, "subject_id"], seed)
    saved = _log_loss(label[judge], risk[judge]) - _log_loss(label[judge], after[judge])
    low, high = percentile(ratio(resamples.sums(saved), resamples.sums(np.ones_like(saved))))
    figures = [_figures(label[judge], probability[judge]) for probability in (risk, after)]
    within = LOWEST_SLOPE <= figures[1]["calibration_slope"] <= HIGHEST_SLOPE
    within &= abs(figures[1]["calibration_intercept"]) <= MOST_SHIFT
    patient, _ = by_patient(judged.loc[judge, "subject_id"])
    return Recalibrated(
        model=_with(model, intercept, slope, after[learn], label[learn], judged.loc[learn, "subject_id"], seed),
        shift=intercept, slope=slope, patients=int(patient.max()) + 1, events=len(np.unique(patient[label[judge] == 1])),
        before=figures[0], after=figures[1], gain=float(saved.mean()), gain_low=low, gain_high=high,
        valid=bool(low > 0 and within),
    )  # fmt: skip


def _with(
    model: RiskModel, shift: float, slope: float, risk: Float64, label: Float64, subject_id: "pd.Series[str]", seed: int
) -> RiskModel:
    """A copy of a model with its calibration moved, and its thresholds with it, so that the same hours are high."""
    moved = copy.copy(model)
    moved.weights_ = model.weights_ * slope
    moved.intercept_ = shift + slope * model.intercept_
    moved.thresholds_ = {
        band: float(from_log_odds(shift + slope * log_odds(threshold))) for band, threshold in model.thresholds_.items()
    }
    moved.certificate_ = None  # its precision was promised for events of another frequency
    moved.ranges_ = VennAbers.fit(risk, label, subject_id, seed=seed)
    moved.facts_ = dict(model.facts_)
    return moved


def _line(label: Float64, margin: Float64) -> tuple[float, float]:
    """Intercept and slope; the slope is 1 unless the data reject it."""
    intercept, slope = line(label, margin)
    alone = shift(label, margin)
    deviance = 2 * float(
        _log_loss(label, from_log_odds(alone + margin)).sum()
        - _log_loss(label, from_log_odds(intercept + slope * margin)).sum()
    )
    if slope <= 0 or stats.chi2.sf(deviance, 1) >= SLOPE_ALPHA:
        return alone, 1.0
    return intercept, slope


def _log_loss(label: Float64, risk: Float64) -> Float64:
    """Of each row."""
    return np.asarray(-np.log(np.where(label == 1, risk, 1 - risk).clip(1e-12)))


def _figures(label: Float64, risk: Float64) -> dict[str, float]:
    found = calibration(label, risk)
    return {
        "log_loss": float(_log_loss(label, risk).mean()),
        **{name: found[name] for name in ("calibration_slope", "calibration_intercept")},
    }
