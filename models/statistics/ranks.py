"""Rank statistics: the AUROC, and a comparison of today's patients with a reference in which patients have several values.

Mann HB, Whitney DR. On a test of whether one of two random variables is stochastically larger than the other. Ann Math Stat
1947;18:50-60. The AUROC is the same statistic (Hanley JA, McNeil BJ. The meaning and use of the area under a receiver operating
characteristic curve. Radiology 1982;143:29-36).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Float64 = NDArray[np.float64]


def auroc(event: ArrayLike, score: ArrayLike) -> float:
    """Return the probability that a row with an event has a higher score than one without; ties count half.

    Args:
        event: True or 1 where the row has an event, shape (n_rows,); both kinds occur.
        score: any score that ranks the rows, shape (n_rows,).

    >>> auroc([False, False, True, True], [0.1, 0.4, 0.4, 0.9])
    0.875
    """
    has_event = np.asarray(event, dtype=bool)
    return _superiority(stats.rankdata(np.asarray(score, dtype=np.float64)), has_event)


def compare_clustered(
    current: Float64, reference: Float64, reference_patients: int, *, correct_ties: bool = True
) -> tuple[float, float]:
    """Compare values of today with those of a reference in which a patient may have several (Mann-Whitney).

    Values of one patient resemble each other. So the reference counts as as many independent values as it has patients.

    Args:
        current: one value a patient, shape (n_current,).
        reference: values of the reference patients, shape (n_reference,).
        reference_patients: how many patients the reference has.
        correct_ties: whether equal values lower the variance; without it the test is more cautious.

    Returns:
        The probability that a value of today is higher than one of the reference (ties count half; 0.5 is no difference), and
        the two-sided p; 1 where all values are equal.

    >>> import numpy as np
    >>> higher, p = compare_clustered(np.arange(10.0) + 8, np.arange(20.0), reference_patients=10)
    >>> round(higher, 3), round(p, 3)
    (0.65, 0.256)
    """
    n, reference_values = len(current), len(reference)
    rank = stats.rankdata(np.concatenate([current, reference]))
    higher = _superiority(rank, np.arange(n + reference_values) < n)
    patients = min(reference_values, reference_patients)
    variance = (_tie_factor(rank) if correct_ties else 1.0) * (n + patients + 1) / (12 * n * patients)
    error = np.sqrt(variance)
    if not error > 0:
        return higher, 1.0
    return higher, float(2 * stats.norm.sf(abs(higher - 0.5) / error))


def _superiority(rank: Float64, is_first: NDArray[np.bool_]) -> float:
    """Return the probability that a value of the first kind is higher than one of the second, from the ranks of all values."""
    first = int(is_first.sum())
    second = len(rank) - first
    return float((rank[is_first].sum() - first * (first + 1) / 2) / (first * second))


def _tie_factor(rank: Float64) -> float:
    """Return the factor by which ties lower the variance of a rank sum: 1 without ties, 0 where all values are equal."""
    ties = np.bincount((2 * rank).astype(np.int64)).astype(np.float64)
    total = len(rank)
    return 1 - float((ties**3 - ties).sum()) / (total**3 - total)
