"""What is typical of training patients: rates of observations, patterns of known vital signs, and combinations of values.

Combinations are judged by a Mahalanobis distance on the normal scale (Mahalanobis PC. On the generalised distance in
statistics. Proc Natl Inst Sci India 1936;2:49-55; to check the input of a classifier: Lee K, Lee K, Lee H, Shin J. A simple
unified framework for detecting out-of-distribution samples and adversarial attacks. NeurIPS 2018).

Vital signs are skewed and heavy-tailed. So each is first put on the normal scale by its quantiles (Liu H, Lafferty J, Wasserman
L. The nonparanormal. J Mach Learn Res 2009;10:2295-2328). A single value then counts by how rare it is. Several moderately rare
values together count more. Correlations are those of known pairs. The distance of a row is over its known vital signs.
Scikit-learn's estimators of covariance and its quantile transformer take neither weights nor missing values.
"""

from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2, norm

from vigil.features.derived import MEASUREMENT_ERROR

Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]
Bool = NDArray[np.bool_]

_LEVELS: Final = np.array([0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999])  # our choice: dense where limits will lie
_MEDIAN: Final = 4  # position of the median among the levels
_CHUNK: Final = 50_000  # rows at once: their products take tens of megabytes
_LEAST_EIGENVALUE: Final = 0.05  # our choice: correlations of pairs may not fit together; below it rounding outweighs values


@dataclass(frozen=True, eq=False)
class Combination:
    """The normal scale of each vital sign, their correlations, and the distance up to which values are usual.

    Attributes:
        edges: quantiles of each vital sign, ascending, padded with infinity, shape (n_vitals, n_levels).
        lines: origin, score at the origin and slope in each interval between edges, shape (n_vitals, n_levels + 1, 3).
        first, second: each pair of vital signs, and each vital sign with itself, shape (n_pairs,).
        precision: weight of the product of each pair, by pattern of known vital signs, shape (2 ** n_vitals, n_pairs).
        furthest: squared distance up to which values are usual, by pattern, shape (2 ** n_vitals,).
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

        The limit for a number of vital signs is the quantile of the chi-square distribution times one factor. The factor is
        learned from all rows. So a pattern that is too rare for a quantile of its own has a limit too.

        Args:
            values: latest values, NaN where unknown, shape (n_rows, n_vitals).
            vitals: names of the vital signs.
            weight: of each row; at least one row with a value weighs more than 0.
            share: share of the weight that may lie beyond the limits.
        """
        size = len(vitals)
        scales = [_fit_scale(values[:, column], weight, MEASUREMENT_ERROR[vital]) for column, vital in enumerate(vitals)]
        edges, lines = (np.array(part) for part in zip(*scales, strict=True))
        first, second = np.triu_indices(size)
        known = (np.arange(2**size)[:, None] >> np.arange(size)) % 2 == 1  # by pattern
        furthest = np.append(0.0, chi2.ppf(1 - share, np.arange(1, size + 1)))[known.sum(axis=1)]
        scale = cls(edges, lines, first, second, np.empty((0, 0)), furthest)
        correlation = _correlation(scale.normal_scores(values), weight)
        precision = np.array([_precision(correlation, pattern)[first, second] for pattern in known])
        precision[:, first != second] *= 2  # a pair stands for both of its products
        unscaled = replace(scale, precision=precision)
        pattern = patterns(values)
        rows = np.flatnonzero((pattern > 0) & (weight > 0))
        excess = unscaled.distance(values[rows], pattern[rows]) / furthest[pattern[rows]]
        return replace(unscaled, furthest=furthest * weighted_quantiles(excess, weight[rows], 1 - share))

    def normal_scores(self, values: Float64) -> Float64:
        """Return values on the normal scale, NaN where unknown, shape (n_rows, n_vitals)."""
        vital, scores = np.arange(values.shape[1]), np.empty(values.shape)
        for start in range(0, len(values), _CHUNK):
            part = values[start : start + _CHUNK]
            interval = (part[:, :, None] >= self.edges).sum(axis=2)
            line = self.lines[vital, interval]
            scores[start : start + _CHUNK] = line[:, :, 1] + line[:, :, 2] * (part - line[:, :, 0])
        return scores

    def distance(self, values: Float64, pattern: Int64) -> Float64:
        """Return the squared distance of the known values, 0 without any, shape (n_rows,).

        It is bit-identical for a row whatever other rows are given with it, because its terms are added in one order.
        """
        scores = self.normal_scores(values)
        scores[np.isnan(scores)] = 0.0
        distance = np.empty(len(values))
        for start in range(0, len(values), _CHUNK):
            rows = slice(start, start + _CHUNK)
            terms = scores[rows, self.first] * scores[rows, self.second] * self.precision[pattern[rows]]
            distance[rows] = terms.cumsum(axis=1)[:, -1]
        return distance

    def is_unusual(self, values: Float64, pattern: Int64) -> Bool:
        """Return whether the known values lie further out than is usual, shape (n_rows,).

        Args:
            values: latest values, NaN where unknown, shape (n_rows, n_vitals).
            pattern: which of them are known (:func:`patterns`), shape (n_rows,).
        """
        return np.asarray(self.distance(values, pattern) > self.furthest[pattern])


def patterns(values: Float64) -> Int64:
    """Return which values of each row are known as one number, the sum of 2 ** column, shape (n_rows,).

    >>> patterns(np.array([[1.0, np.nan, 2.0], [np.nan, np.nan, np.nan]])).tolist()
    [5, 0]
    """
    known: Int64 = ~np.isnan(values) @ (1 << np.arange(values.shape[1]))
    return known


def weighted_quantiles(values: Float64, weight: Float64, levels: ArrayLike) -> Float64:
    """Return the least known value up to which a share of the weight (the level) lies; NaN if none is known.

    So at most that share of the weight lies below the result, and at most 1 - level above it.
    """
    known = np.flatnonzero(~np.isnan(values) & (weight > 0))
    if not len(known):
        return np.full(np.shape(levels), np.nan)
    order = known[np.argsort(values[known], kind="stable")]
    up_to = np.cumsum(weight[order])
    position = np.searchsorted(up_to, np.asarray(levels) * up_to[-1])
    return np.asarray(values[order[np.minimum(position, len(order) - 1)]])


def usual_patterns(pattern: Int64, weight: Float64, vitals: int, share: float) -> Bool:
    """Return whether each pattern is usual: not one of the rarest, which together hold at most a share of the weight.

    Args:
        pattern: of each row (:func:`patterns`), shape (n_rows,).
        weight: of each row.
        vitals: number of vital signs.
        share: of the weight.

    Returns:
        Shape (2 ** vitals,).
    """
    weights = np.bincount(pattern, weights=weight, minlength=2**vitals)
    rarest_first = np.argsort(weights, kind="stable")
    usual = np.zeros(len(weights), dtype=bool)
    usual[rarest_first] = np.cumsum(weights[rarest_first]) > share * weight.sum()
    return usual


def rate_limits(rates: Float64, weight: Float64, share: float) -> tuple[Float64, Float64]:
    """Return the lowest and the highest usual rate of each signal, NaN where none is known, each of shape (n_signals,).

    Rows beyond any of these limits weigh less than the share. Each limit is as rare in its signal as the others in theirs.

    Args:
        rates: observations per hour, NaN without any, shape (n_rows, n_signals).
        weight: of each row.
        share: of the weight.
    """
    rarest = np.ones(len(rates))
    tails = []
    for rate in rates.T:
        known = np.flatnonzero(~np.isnan(rate) & (weight > 0))
        values, number = np.unique(rate[known], return_inverse=True)
        total = max(weight[known].sum(), np.finfo(float).tiny)
        shares = np.bincount(number, weights=weight[known], minlength=len(values)) / total
        tails.append((values, np.cumsum(shares), np.cumsum(shares[::-1])[::-1]))
        rarest[known] = np.minimum(rarest[known], np.minimum(*tails[-1][1:])[number])
    least = weighted_quantiles(rarest, weight, share)
    low, high = np.full((2, len(tails)), np.nan)
    for signal, (values, up_to, from_there) in enumerate(tails):
        if len(values):
            low[signal], high[signal] = values[up_to >= least][0], values[from_there >= least][-1]
    return low, high


def _fit_scale(values: Float64, weight: Float64, error: float) -> tuple[Float64, Float64]:
    """Return edges and lines (:class:`Combination`) of one vital sign.

    Levels that share a value, such as those of an SpO2 of 100, meet at their middle. Beyond the outermost edge the scale
    continues with the slope from the median to that edge. One measurement error
    (:data:`vigil.features.derived.MEASUREMENT_ERROR`) is at most one unit.
    """
    edges, lines = np.full(len(_LEVELS), np.inf), np.zeros((len(_LEVELS) + 1, 3))
    quantiles = weighted_quantiles(values, weight, _LEVELS)
    if np.isnan(quantiles).any():
        return edges, lines
    distinct, level, count = np.unique(quantiles, return_index=True, return_counts=True)
    normal = norm.ppf((_LEVELS[level] + _LEVELS[level + count - 1]) / 2)
    last = len(distinct)
    edges[:last] = distinct
    origins = [0, *range(last)]  # the edge at which each line begins
    lines[: last + 1, 0], lines[: last + 1, 1] = distinct[origins], normal[origins]
    lines[1:last, 2] = np.diff(normal) / np.diff(distinct)
    for interval, edge in ((0, 0), (last, last - 1)):
        distance = abs(distinct[edge] - quantiles[_MEDIAN])
        lines[interval, 2] = min(abs(normal[edge]) / distance, 1 / error) if distance else 1 / error
    return edges, lines


def _correlation(scores: Float64, weight: Float64) -> Float64:
    """Return the correlations of known pairs, 0 without any, made positive definite; shape (n_vitals, n_vitals)."""
    correlation = np.eye(scores.shape[1])
    for one, other in combinations(range(len(correlation)), 2):
        both = ~np.isnan(scores[:, [one, other]]).any(axis=1) & (weight > 0)
        if both.any():
            (first, shared), (_, second) = np.cov(scores[both][:, [one, other]].T, aweights=weight[both], ddof=0)
            if first > 0 and second > 0:
                correlation[one, other] = correlation[other, one] = shared / np.sqrt(first * second)
    values, vectors = np.linalg.eigh(correlation)
    definite = (vectors * np.maximum(values, _LEAST_EIGENVALUE)) @ vectors.T
    spread = np.sqrt(np.diag(definite))
    return np.asarray(definite / np.outer(spread, spread))


def _precision(correlation: Float64, known: Bool) -> Float64:
    """Return the inverse of the correlations of the known vital signs, 0 for the others, shape (n_vitals, n_vitals)."""
    precision = np.zeros_like(correlation)
    pairs = np.ix_(np.flatnonzero(known), np.flatnonzero(known))
    precision[pairs] = np.linalg.inv(correlation[pairs])
    return precision
