"""How good will the model be seen to be, on patients whose outcome nobody knows yet?

Confidence-based performance estimation: a calibrated risk says how often its label will be 1, so every figure has an expected
value before any label is there (NannyML's CBPE; Bialek J, et al. We don't need no labels: estimating post-deployment model
performance under covariate shift without ground truth. arXiv:2401.08348, 2024). The expected AUROC is the model-based
concordance of van Klaveren D, et al. (A new concordance measure for risk prediction models in external validation settings.
Stat Med 2016;35:4136-4152). As CBPE does, :class:`Reliability` first asks the out-of-fold risks how often each came true.

It sees other patients (case mix). It cannot see that the same risks have come to mean something else (concept shift, an event
that treatment now averts, a sensor that fails in a way the model takes for health): labels change, risks stay, and so does the
estimate. Without labels no method can, unless it knows what kind of shift it is (Garg S, et al. Leveraging unlabeled data to
predict out-of-distribution performance. ICLR 2022). On real shifts it foretold prevalence, recall and AUPRC better than the
out-of-fold figures did, but not the AUROC on average: in another unit it expected 0.69, and 0.79 was measured (see
docs/benchmarks.md). So it says where to look, and is no ground to act on alone.
"""

from dataclasses import dataclass
from typing import Final

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.isotonic import isotonic_regression

from features.errors import VigilError
from models.statistics.bootstrap import RESAMPLES, Float64, Int64, Resamples, bounds, ratio

METRICS: Final = ("auroc", "auprc", "brier", "prevalence", "precision", "recall", "alerts")
_BINS: Final = 1000  # of equal size, of out-of-fold risks
_NO_WEIGHT: Final = 1e-9  # of a bin none of whose patients was drawn


class EstimateError(VigilError):
    """Risks of which no performance can be expected."""


@dataclass(frozen=True)
class Reliability:
    """How often risks came true: isotonic regression on the patients a model was trained on, who were out of fold.

    Attributes:
        highest: highest risk of each bin but the last, ascending, shape (n_bins - 1,).
        chance: frequency of the event in each bin, non-decreasing, shape (n_bins,).
        draws: the same with the patients drawn anew, shape (RESAMPLES, n_bins).
    """

    highest: Float64
    chance: Float64
    draws: Float64

    @classmethod
    def fit(cls, probability: ArrayLike, label: ArrayLike, subject_ids: ArrayLike, *, seed: int) -> "Reliability":
        """From out-of-fold risks, their labels (0 or 1) and patients, each of shape (n_rows,).

        Raises:
            EstimateError: as of :func:`estimate`; or labels of one kind only.
        """
        risk, resamples = _checked(probability, subject_ids, seed)
        labels = np.asarray(label, dtype=np.float64)
        if labels.shape != risk.shape or set(np.unique(labels)) != {0.0, 1.0}:
            raise EstimateError(f"label: expected 0 or 1 for each of the {len(risk)} risks, and both among them")
        cuts = np.unique(np.quantile(risk, np.linspace(0, 1, _BINS + 1)[1:-1], method="nearest"))
        highest = cuts[cuts < risk.max()]
        place, bins = np.searchsorted(highest, risk), len(highest) + 1

        def isotonic(weight: Float64) -> Float64:
            rows, events = (np.bincount(place, weights=value, minlength=bins) for value in (weight, weight * labels))
            frequency = ratio(events, rows)
            unseen = rows == 0
            frequency[unseen], rows[unseen] = labels.mean(), _NO_WEIGHT
            return np.asarray(isotonic_regression(frequency, sample_weight=rows), dtype=np.float64)

        draws = [isotonic(times[resamples.patient].astype(np.float64)) for times in resamples.times]
        return cls(highest, isotonic(np.ones_like(risk)), np.array(draws))


def estimate(
    probability: ArrayLike,
    subject_ids: ArrayLike,
    threshold: float,
    *,
    seed: int,
    reliability: Reliability | None = None,
) -> dict[str, float]:
    """Expected figures of unlabelled index times.

    ``auroc``, ``auprc`` (average precision), ``brier`` and ``prevalence`` (share of index times with a positive label) are
    those that :func:`models.evaluation.judge` measures; at the threshold there are ``precision`` (of index times at or above
    it), ``recall`` (of positive index times) and ``alerts`` (share of index times at or above it: known, not estimated).

    Args:
        probability: calibrated risks, shape (n_rows,).
        subject_ids: whose, shape (n_rows,).
        threshold: risk from which an index time is an alert.
        seed: of the patient bootstrap.
        reliability: how often such risks came true in training. None: they are taken at their word, which measures worse.

    Returns:
        Each figure (NaN where it is not defined) with ``_low`` and ``_high``: 95 % over which patients came, and over which
        the reliability was learned from. Chance of the labels and shifts that cannot be seen come on top.

    Raises:
        EstimateError: no risk, one patient only, or what is no probability.
    """
    risk, resamples = _checked(probability, subject_ids, seed)
    if reliability is None:
        chances, place = np.unique(risk, return_inverse=True)
        draws = np.broadcast_to(chances, (RESAMPLES, len(chances)))
    else:
        chances, place = reliability.chance, np.searchsorted(reliability.highest, risk)
        draws = reliability.draws
    once = np.ones((1, resamples.times.shape[1]), dtype=np.int32)
    found = _figures(risk, threshold, place, chances[None], resamples.patient, once)
    drawn = _figures(risk, threshold, place, draws, resamples.patient, resamples.times)
    return {name: float(value[0]) for name, value in found.items()} | bounds(drawn)


def _checked(probability: ArrayLike, subject_ids: ArrayLike, seed: int) -> tuple[Float64, Resamples]:
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
    resamples = Resamples.of(subjects, seed)
    if resamples.times.shape[1] < 2:
        raise EstimateError("subject_ids: one patient only; expected at least two, since patients are what is drawn anew")
    return risk, resamples


def _figures(
    risk: Float64, threshold: float, place: Int64, chance: Float64, patient: Int64, times: NDArray[np.int32]
) -> dict[str, Float64]:
    """The figures in each draw: rows of ``times`` count patients, rows of ``chance`` are of the event at each ``place``."""
    order = np.argsort(-risk, kind="stable")
    ranked = risk[order]
    last_of_tie = np.append(ranked[1:] != ranked[:-1], True)
    auroc, auprc, rows, events, alerts, hits, error = _expected(
        ranked, last_of_tie, ranked >= threshold, place[order], chance, patient[order], times
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
def _expected(
    risk: Float64,
    last_of_tie: NDArray[np.bool_],
    above: NDArray[np.bool_],
    place: Int64,
    chance: Float64,
    patient: Int64,
    times: NDArray[np.int32],
) -> NDArray[np.float64]:
    """AUROC, average precision, and sums of rows, events, alerts, their events and squared errors; (n_draws, 7).

    Rows come from the highest risk down. The areas are expected wins over expected pairs, and expected precision at events
    over expected events. A row makes no pair with itself or its copies, since their labels are one; and where it is an event,
    it is one for sure: ``own`` corrects both.
    """
    found = np.full((len(times), 7), np.nan)
    for draw in range(len(times)):
        positive = negative = positive_before = negative_before = 0.0
        own = own_in_tie = under_roc = under_pr = rows = alerts = hits = error = 0.0
        for row in range(len(risk)):
            drawn = times[draw, patient[row]]
            event = chance[draw, place[row]]
            rows += drawn
            positive += drawn * event
            negative += drawn * (1 - event)
            own_in_tie += drawn * drawn * event * (1 - event)
            error += drawn * (event * (1 - risk[row]) ** 2 + (1 - event) * risk[row] ** 2)
            if above[row]:
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
        if pairs > 1e-9 * positive * negative:  # what is left where all pairs are of a row with itself is rounding
            found[draw, 0] = under_roc / pairs
        if positive > 0:
            found[draw, 1] = under_pr / positive
        found[draw, 2:] = rows, positive, alerts, hits, error
    return found
