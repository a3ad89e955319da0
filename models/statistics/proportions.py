"""Confidence limits of proportions, for rows of one patient that are not independent and for events that are few or none."""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from vigil.models.statistics.bootstrap import Float64, Interval

TAIL: Final = 0.025  # on either side of a 95 % interval


def clopper_pearson(positive: float, n: float, tail: float = TAIL) -> Interval:
    """Return the exact limits of a binomial proportion (Clopper CJ, Pearson ES. Biometrika 1934;26:404-413); NaN if n is 0.

    Args:
        positive: number of positive cases; n: number of cases. Neither needs to be whole.
        tail: probability of a truth beyond either limit.

    >>> low, high = clopper_pearson(0, 20)
    >>> low, round(high, 3)
    (0.0, 0.168)
    """
    if n <= 0:
        return float("nan"), float("nan")
    from scipy.stats import beta

    low = float(beta.ppf(tail, positive, n - positive + 1)) if positive > 0 else 0.0
    high = float(beta.ppf(1 - tail, positive + 1, n - positive)) if positive < n else 1.0
    return low, high


def proportion_limits(positive: ArrayLike, size: ArrayLike, tail: float = TAIL) -> tuple[float, float, float]:
    """Return a proportion of rows that belong to patients, with its limits: ``share, low, high``; NaN without rows.

    The limits are exact ones for the effective number of independent rows. That is the number of rows divided by the design
    effect (Korn EL, Graubard BI. Confidence intervals for proportions with small expected number of positive counts estimated
    from survey data. Survey Methodology 1998;24:193-201). If all patients are alike the design effect is unknown, and each
    patient counts once. A bootstrap would be certain that an event that never occurred cannot occur.

    Args:
        positive, size: positive rows and all rows of each patient, each of shape (n_patients,).
        tail: probability of a truth beyond either limit.

    >>> share, low, high = proportion_limits([2, 0, 1, 0], [10, 10, 10, 10])
    >>> round(share, 3), round(low, 3), round(high, 3)
    (0.075, 0.011, 0.231)
    """
    rows, hits = np.asarray(size, dtype=np.float64), np.asarray(positive, dtype=np.float64)
    hits, rows = hits[rows > 0], rows[rows > 0]
    patients, n = len(rows), float(rows.sum())
    if not patients:
        return float("nan"), *clopper_pearson(0, 0)
    share = float(hits.sum()) / n
    squares = float(((hits - rows * share) ** 2).sum())
    effective = float(patients)
    if squares > 0 and patients > 1:  # variance of a ratio of sums: Cochran WG. Sampling techniques. 1977, 6.3
        effective = min(n, share * (1 - share) * (patients - 1) * n**2 / (patients * squares))
    return share, *clopper_pearson(share * effective, effective, tail)


def group_proportions(label: Float64, group: ArrayLike, subject_id: ArrayLike) -> pd.DataFrame:
    """Return the share of positive rows in each group, with its limits (:func:`proportion_limits`).

    Args:
        label: 0 or 1, shape (n_rows,).
        group, subject_id: group and subject of each row.

    Returns:
        One row a group, in order of the groups: ``n, patients, observed, observed_low, observed_high``.
    """
    rows = pd.DataFrame({"label": label, "group": np.asarray(group), "subject": np.asarray(subject_id)})
    patients = rows.groupby(["group", "subject"])["label"].agg(["sum", "size"])
    shares = {
        key: (int(members["size"].sum()), len(members), *proportion_limits(members["sum"], members["size"]))
        for key, members in patients.groupby(level="group")
    }
    columns = ["n", "patients", "observed", "observed_low", "observed_high"]
    return pd.DataFrame.from_dict(shares, orient="index", columns=columns)
