"""What is usual among training patients: how often signals are read, which vital signs are known, and their values together.

The values are judged by a Mahalanobis distance on the normal scale (Mahalanobis PC. On the generalised distance in statistics.
Proc Natl Inst Sci India 1936;2:49-55; as a check of what a classifier is asked: Lee K, Lee K, Lee H, Shin J. A simple unified
framework for detecting out-of-distribution samples and adversarial attacks. NeurIPS 2018).

Vital signs are skewed and heavy-tailed, so their quantiles first put each on the normal scale (Liu H, Lafferty J, Wasserman L.
The nonparanormal. J Mach Learn Res 2009;10:2295-2328). A single value then counts by how rare it is, and several moderately
rare values together count more. Correlations are those of known pairs, and a row's distance is over its known vital signs.
Scikit-learn's estimators of covariance and its quantile transformer take neither weights nor missing values.
"""

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2, norm

from features.derived import MEASUREMENT_ERROR

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

_LEVELS: Final = np.array([0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999])  # ours: dense where limits will lie
_MEDIAN: Final = 4  # its place among them
_AT_ONCE: Final = 50_000  # rows: their products take tens of megabytes
_LEAST_EIGENVALUE: Final = 0.05  # ours: correlations of pairs need not fit together; below it rounding outweighs the values


@dataclass(frozen=True, eq=False)
class Combination:
    """The normal scale of each vital sign, their correlations, and how far is still usual.

    Attributes:
        edges: quantiles of each vital sign, ascending, padded with infinity, shape (n_vitals, n_levels).
        lines: origin, score there and slope in each interval between edges, shape (n_vitals, n_levels + 1, 3).
        first, second: each pair of vital signs, and each with itself, shape (n_pairs,).
        precision: what the product of each pair counts, by pattern of known vital signs, shape (2 ** n_vitals, n_pairs).
        furthest: the squared distance up to which values are usual, by pattern, shape (2 ** n_vitals,).
    """

    edges: Float64
    lines: Float64
    first: Int64
    second: Int64
    precision: Float64
    furthest: Float64

    @classmethod
    def fit(cls, values: Float64, vitals: list[str], weight: Float64, share: float) -> "Combination":
        """Learn scale, correlations and limits.

        The limit for so many vital signs is that of the chi-square distribution times one factor, learned from all rows: a
        pattern too rare for a quantile of its own has one too.

        Args:
            values: latest values, NaN where unknown, shape (n_rows, n_vitals).
            vitals: their names.
            weight: of each row; at least one with a value weighs more than 0.
            share: of the weight that may lie beyond the limits.
        """
        size = len(vitals)
        scales = [_normal_scale(values[:, place], weight, MEASUREMENT_ERROR[vital]) for place, vital in enumerate(vitals)]
        edges, lines = (np.array(part) for part in zip(*scales, strict=True))
        first, second = np.triu_indices(size)
        known = (np.arange(2**size)[:, None] >> np.arange(size)) % 2 == 1  # of each pattern
        furthest = np.append(0.0, chi2.ppf(1 - share, np.arange(1, size + 1)))[known.sum(axis=1)]
        found = cls(edges, lines, first, second, np.empty((0, 0)), furthest)
        correlation = _correlation(found.normal_scores(values), weight)
        precision = np.array([_precision(correlation, some)[first, second] for some in known])
        precision[:, first != second] *= 2  # a pair stands for both of its products
        found = replace(found, precision=precision)
        pattern = patterns(values)
        rows = np.flatnonzero((pattern > 0) & (weight > 0))
        excess = found.distance(values[rows], pattern[rows]) / furthest[pattern[rows]]
        return replace(found, furthest=furthest * weighted_quantiles(excess, weight[rows], 1 - share))

    def normal_scores(self, values: Float64) -> Float64:
        """Values on the normal scale, NaN where unknown, shape (n_rows, n_vitals)."""
        vital, scores = np.arange(values.shape[1]), np.empty(values.shape)
        for start in range(0, len(values), _AT_ONCE):
            part = values[start : start + _AT_ONCE]
            interval = (part[:, :, None] >= self.edges).sum(axis=2)
            line = self.lines[vital, interval]
            scores[start : start + _AT_ONCE] = line[:, :, 1] + line[:, :, 2] * (part - line[:, :, 0])
        return scores

    def distance(self, values: Float64, pattern: Int64) -> Float64:
        """Squared distance of the known values, 0 without any, shape (n_rows,).

        That of a row is the same bit for bit whatever rows stand beside it: its terms are added up in one order.
        """
        scores = self.normal_scores(values)
        scores[np.isnan(scores)] = 0.0
        found = np.empty(len(values))
        for start in range(0, len(values), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            terms = scores[some, self.first] * scores[some, self.second] * self.precision[pattern[some]]
            found[some] = terms.cumsum(axis=1)[:, -1]
        return found

    def is_unusual(self, values: Float64, pattern: Int64) -> Bool:
        """Whether the known values lie further out than is usual, shape (n_rows,).

        Args:
            values: latest values, NaN where unknown, shape (n_rows, n_vitals).
            pattern: which are known (:func:`patterns`), shape (n_rows,).
        """
        return np.asarray(self.distance(values, pattern) > self.furthest[pattern])


def patterns(values: Float64) -> Int64:
    """Which values are known, as one number: 2 ** place for each, shape (n_rows,)."""
    known: Int64 = ~np.isnan(values) @ (1 << np.arange(values.shape[1]))
    return known


def weighted_quantiles(values: Float64, weight: Float64, levels: ArrayLike) -> Float64:
    """The least known value up to which a level of the weight lies; NaN where none is known.

    So at most a level of the weight lies below the result, and at most 1 - level above it.
    """
    known = np.flatnonzero(~np.isnan(values) & (weight > 0))
    if not len(known):
        return np.full(np.shape(levels), np.nan)
    order = known[np.argsort(values[known], kind="stable")]
    up_to = np.cumsum(weight[order])
    place = np.searchsorted(up_to, np.asarray(levels) * up_to[-1])
    return np.asarray(values[order[np.minimum(place, len(order) - 1)]])


def usual_patterns(pattern: Int64, weight: Float64, vitals: int, share: float) -> Bool:
    """All patterns but the rarest, which together hold at most a share of the weight; shape (2 ** vitals,)."""
    held = np.bincount(pattern, weights=weight, minlength=2**vitals)
    rarest_first = np.argsort(held, kind="stable")
    usual = np.zeros(len(held), dtype=bool)
    usual[rarest_first] = np.cumsum(held[rarest_first]) > share * weight.sum()
    return usual


def rate_limits(rates: Float64, weight: Float64, share: float) -> tuple[Float64, Float64]:
    """The lowest and highest usual rate of each signal, NaN where none is known, each of shape (n_signals,).

    Rows beyond any of these limits weigh less than the share. Each limit is as rare in its signal as the others in theirs.

    Args:
        rates: readings per hour, NaN without any, shape (n_rows, n_signals).
        weight: of each row.
        share: of the weight.
    """
    rarest = np.ones(len(rates))
    tails = []
    for rate in rates.T:
        known = np.flatnonzero(~np.isnan(rate) & (weight > 0))
        values, place = np.unique(rate[known], return_inverse=True)
        held = np.bincount(place, weights=weight[known], minlength=len(values)) / max(weight[known].sum(), np.finfo(float).tiny)
        tails.append((values, np.cumsum(held), np.cumsum(held[::-1])[::-1]))
        rarest[known] = np.minimum(rarest[known], np.minimum(*tails[-1][1:])[place])
    least = weighted_quantiles(rarest, weight, share)
    low, high = np.full((2, len(tails)), np.nan)
    for signal, (values, up_to, from_there) in enumerate(tails):
        if len(values):
            low[signal], high[signal] = values[up_to >= least][0], values[from_there >= least][-1]
    return low, high


def _normal_scale(values: Float64, weight: Float64, error: float) -> tuple[Float64, Float64]:
    """Edges and lines (:class:`Combination`) of one vital sign.

    Levels that share a value, as do those of an SpO2 of 100, meet at their middle. Beyond the outermost edge the scale goes on
    as it did from the median to there; one measurement error (:data:`features.derived.MEASUREMENT_ERROR`) is at most one unit.
    """
    edges, lines = np.full(len(_LEVELS), np.inf), np.zeros((len(_LEVELS) + 1, 3))
    quantiles = weighted_quantiles(values, weight, _LEVELS)
    if np.isnan(quantiles).any():
        return edges, lines
    found, place, count = np.unique(quantiles, return_index=True, return_counts=True)
    normal = norm.ppf((_LEVELS[place] + _LEVELS[place + count - 1]) / 2)
    last = len(found)
    edges[:last] = found
    begins = [0, *range(last)]  # the edge from which each line goes
    lines[: last + 1, 0], lines[: last + 1, 1] = found[begins], normal[begins]
    lines[1:last, 2] = np.diff(normal) / np.diff(found)
    for interval, edge in ((0, 0), (last, last - 1)):
        distance = abs(found[edge] - quantiles[_MEDIAN])
        lines[interval, 2] = min(abs(normal[edge]) / distance, 1 / error) if distance else 1 / error
    return edges, lines


def _correlation(scores: Float64, weight: Float64) -> Float64:
    """Correlations of the pairs that are known, 0 without any, made positive definite; shape (n_vitals, n_vitals)."""
    found = np.eye(scores.shape[1])
    for one, other in combinations(range(len(found)), 2):
        both = ~np.isnan(scores[:, [one, other]]).any(axis=1) & (weight > 0)
        if both.any():
            (first, shared), (_, second) = np.cov(scores[both][:, [one, other]].T, aweights=weight[both], ddof=0)
            if first > 0 and second > 0:
                found[one, other] = found[other, one] = shared / np.sqrt(first * second)
    values, vectors = np.linalg.eigh(found)
    definite = (vectors * np.maximum(values, _LEAST_EIGENVALUE)) @ vectors.T
    spread = np.sqrt(np.diag(definite))
    return np.asarray(definite / np.outer(spread, spread))


def _precision(correlation: Float64, known: Bool) -> Float64:
    """The inverse of the correlations of the known vital signs, 0 elsewhere, shape (n_vitals, n_vitals)."""
    found = np.zeros_like(correlation)
    some = np.flatnonzero(known)
    found[np.ix_(some, some)] = np.linalg.inv(correlation[np.ix_(some, some)])
    return found
