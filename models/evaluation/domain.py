"""How often are patients outside the domain of use, and how well does the model rank on either side of it?"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score

from models.cohort import by_patient
from models.evaluation.discrimination import discrimination_draws
from models.statistics.bootstrap import Float64, Resamples, percentile
from models.statistics.proportions import exact, limits


def judged(
    domain_outside: NDArray[np.bool_], label: ArrayLike, risk: ArrayLike, subject_id: ArrayLike, *, seed: int = 0
) -> dict[str, float | int | None]:
    """How many rows and patients are outside the domain of use, and how the model ranks inside and outside.

    Limits of shares are exact, those of rows with the design effect of patients (:mod:`models.statistics.proportions`). Those
    of the AUROC are from a bootstrap of patients.

    Args:
        domain_outside: of each row, shape (n_rows,) (:meth:`models.domain.DomainOfUse.outside`).
        label: 0, 1, or NaN for rows that count for the shares only.
        risk: what the model would say, also outside; any score that ranks; NaN where it was not asked.
        subject_id: of each row.
        seed: of the bootstrap.

    Returns:
        ``rows, patients, rows_outside``; ``share_of_rows`` outside; ``share_of_patients`` with a row outside; and of each side,
        ``inside`` and ``outside``: ``auroc_<side>``, and of its labelled rows the ``prevalence_<side>``. ``share_of_rows``,
        ``share_of_patients`` and ``auroc_<side>`` have 95 % limits, ``<name>_low`` and ``<name>_high``. None where there is
        nothing to tell a figure from, as is the AUROC of rows of one class.
    """
    outside = np.asarray(domain_outside, dtype=bool)
    outcome, score = (np.asarray(values, dtype=np.float64) for values in (label, risk))
    subjects = np.asarray(subject_id)
    patient, patients = by_patient(subjects)
    rows = np.bincount(patient, minlength=len(patients))
    hits = np.bincount(patient, weights=outside, minlength=len(patients))
    found = {
        **_named("share_of_rows", limits(hits, rows)),
        **_named("share_of_patients", (float(np.mean(hits > 0)) if len(hits) else np.nan, *exact((hits > 0).sum(), len(hits)))),
    }
    for side, members in (("inside", ~outside), ("outside", outside)):
        labelled = members & ~np.isnan(outcome) & ~np.isnan(score)
        found |= _named(f"auroc_{side}", _auroc(outcome[labelled], score[labelled], subjects[labelled], seed))
        found[f"prevalence_{side}"] = float(outcome[labelled].mean()) if labelled.any() else np.nan
    sizes = {"rows": len(outside), "patients": len(patients), "rows_outside": int(outside.sum())}
    return sizes | {name: None if np.isnan(value) else value for name, value in found.items()}


def _auroc(label: Float64, score: Float64, subject_id: NDArray[np.object_], seed: int) -> tuple[float, float, float]:
    """AUROC and its limits; NaN where the rows are not of both classes."""
    if len(np.unique(label)) < 2:
        return float("nan"), float("nan"), float("nan")
    draws = discrimination_draws(label, score, Resamples.of(subject_id, seed))["auroc"]
    return float(roc_auc_score(label, score)), *percentile(draws)


def _named(name: str, estimate: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), estimate, strict=True))
