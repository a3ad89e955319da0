"""Recalibration: new probabilities for the champion, with its ranking unchanged.

The new calibration is fitted on half of the patients and evaluated on the other half.
"""

import copy
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from scipy import stats

from vigil.features.errors import VigilError
from vigil.models.cohort import assign_folds, number_patients
from vigil.models.evaluation.calibration import fit_line, fit_shift, measure_calibration
from vigil.models.promotion.gates import HIGHEST_SLOPE, LOWEST_SLOPE, MOST_SHIFT
from vigil.models.statistics.bootstrap import Float64, Resamples, percentile_interval, ratio
from vigil.models.training.risk_model import RiskModel, from_log_odds, log_odds
from vigil.models.training.venn_abers import VennAbers

SLOPE_ALPHA: Final = 0.05  # the slope is fitted too if the likelihood ratio test has a p value below this


class RecalibrationError(VigilError):
    """There are too few outcomes for a recalibration."""


@dataclass(frozen=True)
class Recalibrated:
    """A recalibrated model and the evidence for it.

    Attributes:
        model: the champion with new probabilities. Its ranking, and so its alarms, are unchanged.
        shift, slope: new log-odds = shift + slope * old log-odds.
        patients, events: numbers of the half that it was evaluated on.
        before, after: ``log_loss, calibration_slope, calibration_intercept`` on that half.
        gain: reduction of the log loss there, with ``gain_low`` and ``gain_high`` (95 %, bootstrap of patients).
        valid: whether the model may replace the champion.
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
        """Return the new probabilities for old ones, of any shape."""
        return from_log_odds(self.shift + self.slope * log_odds(probability))

    def as_dict(self) -> dict[str, object]:
        """Return all attributes except the model, for a record."""
        return {name: value for name, value in vars(self).items() if name != "model"}


def recalibrate(model: RiskModel, judged: pd.DataFrame, *, seed: int) -> Recalibrated:
    """Fit the intercept, and the slope if necessary, on half of the patients, and evaluate the result on the other half.

    The intercept needs the fewest events, so it is always fitted (Steyerberg EW, et al. Validation and updating of predictive
    logistic regression models. Stat Med 2004;23:2567-2586). The slope is fitted if a likelihood ratio test rejects a slope of 1
    (Vergouwe Y, et al. A closed testing procedure to select an appropriate method to update prediction models. Stat Med
    2017;36:4529-4539).

    The result is valid if the log loss on the other half is lower with 95 % confidence, and slope and intercept there are
    within the limits of the promotion gate.

    Args:
        model: the champion.
        judged: ``subject_id``, ``probability`` (of the champion) and ``label``.
        seed: seed of the division into halves.

    Raises:
        RecalibrationError: a half has patients with an event only, or without only.
    """
    label, risk = judged["label"].to_numpy(np.float64), judged["probability"].to_numpy(np.float64)
    half = assign_folds(judged["subject_id"], label == 1, 2, seed=seed)
    learn, judge = half == 0, half == 1
    if any(len(np.unique(label[part])) < 2 for part in (learn, judge)):
        raise RecalibrationError(
            "outcomes: half of the patients hold no event, or only events; expected both in each half; wait for more outcomes"
        )
    intercept, slope = _fit_line(label[learn], log_odds(risk[learn]))
    after = from_log_odds(intercept + slope * log_odds(risk))
    resamples = Resamples.draw(judged.loc[judge, "subject_id"], seed)
    saved = _log_loss(label[judge], risk[judge]) - _log_loss(label[judge], after[judge])
    low, high = percentile_interval(ratio(resamples.sums(saved), resamples.sums(np.ones_like(saved))))
    figures = [_measure(label[judge], probability[judge]) for probability in (risk, after)]
    is_calibrated = LOWEST_SLOPE <= figures[1]["calibration_slope"] <= HIGHEST_SLOPE
    is_calibrated &= abs(figures[1]["calibration_intercept"]) <= MOST_SHIFT
    patient, _ = number_patients(judged.loc[judge, "subject_id"])
    return Recalibrated(
        model=_recalibrate_copy(model, intercept, slope, after[learn], label[learn], judged.loc[learn, "subject_id"], seed),
        shift=intercept, slope=slope, patients=int(patient.max()) + 1, events=len(np.unique(patient[label[judge] == 1])),
        before=figures[0], after=figures[1], gain=float(saved.mean()), gain_low=low, gain_high=high,
        valid=bool(low > 0 and is_calibrated),
    )  # fmt: skip


def _recalibrate_copy(
    model: RiskModel, shift: float, slope: float, risk: Float64, label: Float64, subject_id: "pd.Series[str]", seed: int
) -> RiskModel:
    """Return a copy of a model with a new calibration; its thresholds move with it, so the same hours are high."""
    recalibrated = copy.copy(model)
    recalibrated.weights_ = model.weights_ * slope
    recalibrated.intercept_ = shift + slope * model.intercept_
    recalibrated.thresholds_ = {
        band: float(from_log_odds(shift + slope * log_odds(threshold))) for band, threshold in model.thresholds_.items()
    }
    recalibrated.certificate_ = None  # its precision was guaranteed for another frequency of events
    recalibrated.ranges_ = VennAbers.fit(risk, label, subject_id, seed=seed)
    recalibrated.metadata_ = dict(model.metadata_)
    return recalibrated


def _fit_line(label: Float64, margin: Float64) -> tuple[float, float]:
    """Return intercept and slope; the slope is 1 unless the data reject it."""
    intercept, slope = fit_line(label, margin)
    intercept_alone = fit_shift(label, margin)
    deviance = 2 * float(
        _log_loss(label, from_log_odds(intercept_alone + margin)).sum()
        - _log_loss(label, from_log_odds(intercept + slope * margin)).sum()
    )
    if slope <= 0 or stats.chi2.sf(deviance, 1) >= SLOPE_ALPHA:
        return intercept_alone, 1.0
    return intercept, slope


def _log_loss(label: Float64, risk: Float64) -> Float64:
    """Return the log loss of each row."""
    return np.asarray(-np.log(np.where(label == 1, risk, 1 - risk).clip(1e-12)))


def _measure(label: Float64, risk: Float64) -> dict[str, float]:
    """Return mean log loss, calibration slope and calibration intercept."""
    metrics = measure_calibration(label, risk)
    return {
        "log_loss": float(_log_loss(label, risk).mean()),
        **{name: metrics[name] for name in ("calibration_slope", "calibration_intercept")},
    }
