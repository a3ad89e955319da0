"""Domain of use: how often patients are outside it, and how well the model ranks inside and outside."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score

from vigil.models.cohort import number_patients
from vigil.models.evaluation.discrimination import resample_discrimination
from vigil.models.statistics.bootstrap import Float64, Resamples, percentile_interval
from vigil.models.statistics.proportions import clopper_pearson, proportion_limits


def measure_domain_of_use(
    domain_outside: NDArray[np.bool_], label: ArrayLike, risk: ArrayLike, subject_id: ArrayLike, *, seed: int = 0
) -> dict[str, float | int | None]:
    """Count rows and patients outside the domain of use, and measure how the model ranks inside and outside.

    Limits of shares are exact. Those of rows use the design effect of patients (:mod:`vigil.models.statistics.proportions`).
    Limits of the AUROC come from a bootstrap of patients.

    Args:
        domain_outside: whether each row is outside, shape (n_rows,) (:meth:`vigil.models.domain.DomainOfUse.outside`).
        label: 0 or 1; NaN for rows that count for the shares only.
        risk: the model's risk of each row, also outside. Any score that ranks will do. NaN: the model gave no risk.
        subject_id: subject of each row.
        seed: seed of the bootstrap.

    Returns:
        ``rows, patients, rows_outside``; ``share_of_rows`` outside; ``share_of_patients`` with a row outside. For each side,
        ``inside`` and ``outside``: ``auroc_<side>``, and ``prevalence_<side>`` of its labelled rows. ``share_of_rows``,
        ``share_of_patients`` and ``auroc_<side>`` have 95 % limits, ``<name>_low`` and ``<name>_high``. A value is None where
        the rows do not define it, such as the AUROC of rows of one class.
    """
    outside = np.asarray(domain_outside, dtype=bool)
    outcome, score = (np.asarray(values, dtype=np.float64) for values in (label, risk))
    subjects = np.asarray(subject_id)
    patient, patients = number_patients(subjects)
    rows = np.bincount(patient, minlength=len(patients))
    outside_per_patient = np.bincount(patient, weights=outside, minlength=len(patients))
    figures = {
        **_with_limits("share_of_rows", proportion_limits(outside_per_patient, rows)),
        **_with_limits(
            "share_of_patients",
            (
                float(np.mean(outside_per_patient > 0)) if len(outside_per_patient) else np.nan,
                *clopper_pearson((outside_per_patient > 0).sum(), len(outside_per_patient)),
            ),
        ),
    }
    for side, members in (("inside", ~outside), ("outside", outside)):
        labelled = members & ~np.isnan(outcome) & ~np.isnan(score)
        figures |= _with_limits(f"auroc_{side}", _measure_auroc(outcome[labelled], score[labelled], subjects[labelled], seed))
        figures[f"prevalence_{side}"] = float(outcome[labelled].mean()) if labelled.any() else np.nan
    sizes = {"rows": len(outside), "patients": len(patients), "rows_outside": int(outside.sum())}
    return sizes | {name: None if np.isnan(value) else value for name, value in figures.items()}


def _measure_auroc(label: Float64, score: Float64, subject_id: NDArray[np.object_], seed: int) -> tuple[float, float, float]:
    """Return the AUROC and its 95 % limits; NaN if the rows hold one class only."""
    if len(np.unique(label)) < 2:
        return float("nan"), float("nan"), float("nan")
    draws = resample_discrimination(label, score, Resamples.draw(subject_id, seed))["auroc"]
    return float(roc_auc_score(label, score)), *percentile_interval(draws)


def _with_limits(name: str, estimate: tuple[float, float, float]) -> dict[str, float]:
    """Return an estimate and its limits under ``name, name_low, name_high``."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), estimate, strict=True))
