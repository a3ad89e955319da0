"""What a risk model is given: columns by name, labels of any two values, and the patient of each row."""

import difflib
import warnings
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from vigil.features.errors import VigilError
from vigil.models.cohort import LABEL_COLUMNS

SUBJECT: Final = "subject_id"  # column of a frame that says which patient a row is of
# A feature never has one of these names, so a model that learns from all columns leaves them out.
_NO_FEATURES: Final = frozenset(LABEL_COLUMNS)


class FeatureMismatchError(VigilError, ValueError):
    """The frame lacks columns that the model was trained on."""


def list_feature_columns(X: pd.DataFrame) -> list[str]:
    """Return the columns of a frame that may be features: all but those that say whose row it is, and what came of it.

    >>> list_feature_columns(pd.DataFrame(columns=["subject_id", "index_time", "spo2_min_24h", "label"]))
    ['spo2_min_24h']
    """
    return [name for name in X.columns if name not in _NO_FEATURES]


def select_columns(X: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return the named columns of a frame, in the order of the names.

    Raises:
        FeatureMismatchError: some are missing.
    """
    position = X.columns.get_indexer(pd.Index(names)) if X.columns.is_unique else None
    if position is None or (position < 0).any():
        missing = [name for name in names if name not in X]
        if missing:
            raise FeatureMismatchError(_describe_mismatch(missing, names, [str(column) for column in X.columns]))
        return X[list(names)]
    return X.take(position, axis=1)  # for one row several times as fast as by name


def encode_labels(y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Return labels as 0 for no event, 1 for an event and NaN for unknown, shape (n_rows,), and the two classes in that order.

    Raises:
        ValueError: y is no column of classes, or holds more than two.

    >>> encode_labels(["dead", "alive", "alive"])
    (array([1., 0., 0.]), array(['alive', 'dead'], dtype='<U5'))
    """
    if y is None:
        raise ValueError("y: RiskModel requires y to be passed, but the target y is None; expected 0 or 1 for each row")
    values = column_or_1d(y, warn=True)
    if values.dtype.kind == "f" and np.isinf(values).any():
        raise ValueError("y: Input y contains infinity; expected 0, 1, or NaN where the outcome is unknown")
    is_known = ~pd.isna(values)
    check_classification_targets(values[is_known])
    classes = np.unique(values[is_known])
    if len(classes) > 2:
        raise ValueError(
            "y: Only binary classification is supported. The type of the target is multiclass. Expected an event or none"
        )
    if values.dtype.kind in "biuf" and np.isin(classes, [0, 1]).all():
        return values.astype(np.float64), np.array([0, 1])
    labels = np.full(len(values), np.nan)
    labels[is_known] = np.searchsorted(classes, values[is_known])
    return labels, classes


def find_patients(X: pd.DataFrame, groups: ArrayLike | None) -> "pd.Series[str]":
    """Return the subject of each row: ``groups`` where they are given, else the column ``subject_id``.

    A frame without that column may hold several rows of one patient. If it does, what a model learns about its own risks is too
    good. So it is said that each row counts as a patient.
    """
    if groups is not None:
        return groups if isinstance(groups, pd.Series) else pd.Series(np.asarray(groups))
    if SUBJECT in X:
        return X[SUBJECT]
    warnings.warn(
        f"groups: not given, and X has no column {SUBJECT}, so each row counts as a patient; if patients have several rows, "
        "pass groups, the patient of each row",
        stacklevel=4,
    )
    return pd.Series([str(row) for row in range(len(X))])


def _describe_mismatch(missing: Sequence[str], expected: Sequence[str], columns: Sequence[str]) -> str:
    """Return which columns a frame lacks, and which of its columns may be meant instead."""
    lines = []
    for name in missing[:5]:
        close = difflib.get_close_matches(name, set(columns) - set(expected), n=1)
        lines.append(f"{name} (is it {close[0]}?)" if close else name)
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    return (
        f"features: {len(missing)} of the model's {len(expected)} columns are missing: {', '.join(lines)}{more}; "
        f"the frame has {len(set(columns) & set(expected))} of them and {len(set(columns) - set(expected))} others; "
        "expected rows of the model's feature service"
    )
