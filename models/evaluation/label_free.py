"""Label-free estimates: the performance to expect of a model before outcomes are known.

The method is confidence-based performance estimation. A calibrated risk states how often its label will be 1, so every metric
has an expected value without any label (NannyML's CBPE; Bialek J, et al. We don't need no labels: estimating post-deployment
model performance under covariate shift without ground truth. arXiv:2401.08348, 2024). The expected AUROC is the model-based
concordance of van Klaveren D, et al. (A new concordance measure for risk prediction models in external validation settings.
Stat Med 2016;35:4136-4152). As in CBPE, :class:`Reliability` first learns from out-of-fold risks how often each came true.

The estimate responds to other patients (case mix). It cannot respond when the same risks come to mean something else (concept
shift). Examples: treatment now averts an event, or a sensor fails in a way that the model takes for health. Labels change,
risks stay, and so does the estimate. Without labels no method can detect this, unless the kind of shift is known (Garg S, et
al. Leveraging unlabeled data to predict out-of-distribution performance. ICLR 2022).

On real shifts the estimate predicted prevalence, recall and AUPRC better than the out-of-fold metrics did, but on average not
the AUROC: in another unit it expected 0.69, and 0.79 was measured (docs/benchmarks.md). The estimate shows where to look. It is
no ground for action on its own.
"""

from dataclasses import dataclass
from typing import Final

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.isotonic import isotonic_regression

from vigil.features.errors import VigilError
from vigil.models.statistics.bootstrap import RESAMPLES, Float64, Int64, Resamples, percentile_bounds, ratio

METRICS: Final = ("auroc", "auprc", "brier", "prevalence", "precision", "recall", "alerts")
_BINS: Final = 1000  # bins of equal size of the out-of-fold risks
_NO_WEIGHT: Final = 1e-9  # weight of a bin without a drawn patient


class EstimateError(VigilError):
    """The performance cannot be estimated from these risks."""


@dataclass(frozen=True)
class Reliability:
    """Observed frequency of the event by risk: an isotonic regression on the out-of-fold risks of training patients.

    Attributes:
        highest: highest risk of each bin but the last, ascending, shape (n_bins - 1,).
        chance: frequency of the event in each bin, non-decreasing, shape (n_bins,).
        draws: the same frequencies in each resample of the patients, shape (RESAMPLES, n_bins).
    """

    highest: Float64
    chance: Float64
    draws: Float64

    @classmethod
    def fit(cls, probability: ArrayLike, label: ArrayLike, subject_ids: ArrayLike, *, seed: int) -> "Reliability":
        """Fit the frequencies to out-of-fold risks.

        Args:
            probability: out-of-fold risks, shape (n_rows,).
            label: 0 or 1, shape (n_rows,).
            subject_ids: subject of each row, shape (n_rows,).
            seed: seed of the patient bootstrap.

        Raises:
            EstimateError: as for :func:`estimate_performance`, or the labels hold one class only.
        """
        risk, resamples = _check_input(probability, subject_ids, seed)
        labels = np.asarray(label, dtype=np.float64)
        if labels.shape != risk.shape or set(np.unique(labels)) != {0.0, 1.0}:
            raise EstimateError(f"label: expected 0 or 1 for each of the {len(risk)} risks, and both classes; check the labels")
        cuts = np.unique(np.quantile(risk, np.linspace(0, 1, _BINS + 1)[1:-1], method="nearest"))
        highest = cuts[cuts < risk.max()]
        bin_of_row, bins = np.searchsorted(highest, risk), len(highest) + 1

        def fit_frequencies(weight: Float64) -> Float64:
            rows, events = (np.bincount(bin_of_row, weights=value, minlength=bins) for value in (weight, weight * labels))
            frequency = ratio(events, rows)
            unseen = rows == 0
            frequency[unseen], rows[unseen] = labels.mean(), _NO_WEIGHT
            return np.asarray(isotonic_regression(frequency, sample_weight=rows), dtype=np.float64)

        draws = [fit_frequencies(times[resamples.patient].astype(np.float64)) for times in resamples.times]
        return cls(highest, fit_frequencies(np.ones_like(risk)), np.array(draws))


def estimate_performance(
    probability: ArrayLike,
    subject_ids: ArrayLike,
    threshold: float,
    *,
    seed: int,
    reliability: Reliability | None = None,
) -> dict[str, float]:
    """Estimate the metrics of index times without labels.

    ``auroc``, ``auprc`` (average precision), ``brier`` and ``prevalence`` (share of index times with a positive label) are the
    metrics that :func:`vigil.models.evaluation.evaluate_predictions` measures. At the threshold there are ``precision`` (of
    index times at or above
    it), ``recall`` (of positive index times) and ``alerts`` (share of index times at or above it, which is known exactly).

    Args:
        probability: calibrated risks, shape (n_rows,).
        subject_ids: subject of each row, shape (n_rows,).
        threshold: risk from which an index time is an alert.
        seed: seed of the patient bootstrap.
        reliability: observed frequencies by risk, from training. None: use the risks as they are, which estimates worse.

    Returns:
        Each metric (NaN where it is not defined) with ``_low`` and ``_high``. The 95 % interval covers the choice of patients
        here and in the reliability. It does not cover the chance of single labels, nor shifts that risks do not show.

    Raises:
        EstimateError: no risk, one patient only, or a value that is no probability.

    >>> estimate_performance([0.9, 0.1], ["a", "b"], 0.5, seed=0)["prevalence"]
    0.5
    """
    risk, resamples = _check_input(probability, subject_ids, seed)
    if reliability is None:
        chances, bin_of_row = np.unique(risk, return_inverse=True)
        draws = np.broadcast_to(chances, (RESAMPLES, len(chances)))
    else:
        chances, bin_of_row = reliability.chance, np.searchsorted(reliability.highest, risk)
        draws = reliability.draws
    all_once = np.ones((1, resamples.times.shape[1]), dtype=np.int32)
    estimates = _estimate_draws(risk, threshold, bin_of_row, chances[None], resamples.patient, all_once)
    resampled = _estimate_draws(risk, threshold, bin_of_row, draws, resamples.patient, resamples.times)
    return {name: float(value[0]) for name, value in estimates.items()} | percentile_bounds(resampled)


def _check_input(probability: ArrayLike, subject_ids: ArrayLike, seed: int) -> tuple[Float64, Resamples]:
    """Return the risks and the resamples of their patients.

    Raises:
        EstimateError: the risks cannot be used.
    """
    risk, subjects = np.asarray(probability, dtype=np.float64), np.asarray(subject_ids)
    if risk.ndim != 1 or risk.shape != subjects.shape:
        raise EstimateError(
            f"probability: shape {risk.shape}, subject_ids: shape {subjects.shape}; expected one subject for each risk"
        )
    if not len(risk):
        raise EstimateError("probability: no predictions; expected the risks of at least two patients")
    if wrong := int((~((risk >= 0) & (risk <= 1))).sum()):
        raise EstimateError(
            f"probability: {wrong} of {len(risk)} lie outside 0 to 1 or are missing; expected calibrated probabilities, not "
            "scores or log-odds"
        )
    resamples = Resamples.draw(subjects, seed)
    if resamples.times.shape[1] < 2:
        raise EstimateError("subject_ids: one patient only; expected at least two, because the bootstrap draws patients")
    return risk, resamples


def _estimate_draws(
    risk: Float64, threshold: float, bin_of_row: Int64, chance: Float64, patient: Int64, times: NDArray[np.int32]
) -> dict[str, Float64]:
    """Compute the metrics in each draw.

    Args:
        risk: of each row.
        threshold: risk from which a row is an alert.
        bin_of_row: column of ``chance`` of each row.
        chance: frequency of the event, one row per draw and one column per bin.
        patient: column of ``times`` of each row.
        times: how often each patient is drawn, one row per draw.
    """
    order = np.argsort(-risk, kind="stable")
    ranked = risk[order]
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    auroc, auprc, rows, events, alerts, hits, error = _expected_sums(
        ranked, last_of_tie, ranked >= threshold, bin_of_row[order], chance, patient[order], times
    ).T
    return {
        "auroc": auroc,
        "auprc": auprc,
        "brier": error / rows,
        "prevalence": events / rows,
        "precision": ratio(hits, alerts),
        "recall": ratio(hits, events),
        "alerts": alerts / rows,
    }


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _expected_sums(
    risk: Float64,
    last_of_tie: NDArray[np.bool_],
    is_alert: NDArray[np.bool_],
    bin_of_row: Int64,
    chance: Float64,
    patient: Int64,
    times: NDArray[np.int32],
) -> NDArray[np.float64]:
    """Return AUROC, average precision, and sums of rows, events, alerts, their events and squared errors; (n_draws, 7).

    Rows must descend by risk. The AUROC is expected wins over expected pairs. The average precision is expected precision at
    events over expected events. A row forms no pair with itself or its copies, because they share one label. Where a row is an
    event, its own contribution to precision is certain. ``own`` corrects for both.
    """
    sums = np.full((len(times), 7), np.nan)
    for draw in range(len(times)):
        positive = negative = positive_before = negative_before = 0.0
        own = own_in_tie = under_roc = under_pr = rows = alerts = hits = error = 0.0
        for row in range(len(risk)):
            drawn = times[draw, patient[row]]
            event = chance[draw, bin_of_row[row]]
            rows += drawn
            positive += drawn * event
            negative += drawn * (1 - event)
            own_in_tie += drawn * drawn * event * (1 - event)
            error += drawn * (event * (1 - risk[row]) ** 2 + (1 - event) * risk[row] ** 2)
            if is_alert[row]:
                alerts += drawn
                hits += drawn * event
            if last_of_tie[row]:
                under_roc += (negative - negative_before) * 0.5 * (positive + positive_before) - 0.5 * own_in_tie
                if rows > 0:
                    under_pr += ((positive - positive_before) * positive + own_in_tie) / rows
                own += own_in_tie
                own_in_tie = 0.0
                positive_before, negative_before = positive, negative
        pairs = positive * negative - own
        if pairs > 1e-9 * positive * negative:  # less is rounding: every pair is a row with itself
            sums[draw, 0] = under_roc / pairs
        if positive > 0:
            sums[draw, 1] = under_pr / positive
        sums[draw, 2:] = rows, positive, alerts, hits, error
    return sums
