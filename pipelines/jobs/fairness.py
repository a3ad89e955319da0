"""Examine how a model treats groups of held-out patients: by columns of stays, and by attributes that a file brings."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
from pyarrow import ArrowException

from vigil.features.pseudonyms import open_pseudonyms
from vigil.models.cohort import patient_of
from vigil.models.evaluation.comparison import EvaluationSet, records_of
from vigil.models.evaluation.fairness import (
    AttributeNameError,
    assign_attributes,
    hide_small_cells,
    list_attributes,
    measure_fairness,
    measure_group_calibration,
)
from vigil.pipelines.home import Home
from vigil.pipelines.sources import STAYS
from vigil.pipelines.table_files import read_table

KEY: Final = "subject_id"  # the column of a file of attributes that names the stay or the patient


class AttributesError(AttributeNameError):
    """Attributes that cannot be joined with the stays of a home."""


@dataclass(frozen=True)
class Fairness:
    """How a model treats groups of patients.

    Attributes:
        by: the attributes, in order.
        groups: as of :func:`vigil.models.evaluation.fairness.measure_fairness`.
        calibration: as of :func:`vigil.models.evaluation.fairness.measure_group_calibration`.
    """

    by: list[str]
    groups: pd.DataFrame
    calibration: pd.DataFrame


def read_attributes(path: Path) -> pd.DataFrame:
    """Read a file of attributes: CSV or Parquet with a column ``subject_id``, and others.

    Raises:
        AttributesError: the file cannot be read.
    """
    if not path.is_file():
        raise AttributesError(f"--attributes {path}: no such file; expected CSV (.csv) or Parquet with {KEY} and attributes")
    try:
        return read_table(path, dtype={KEY: str})
    except (OSError, ValueError, ArrowException) as error:
        raise AttributesError(
            f"--attributes {path}: cannot be read ({type(error).__name__}); expected CSV (.csv) or Parquet"
        ) from None


def join_attributes(home: Home, stays: pd.DataFrame, attributes: pd.DataFrame) -> pd.DataFrame:
    """Return the stays of a home with attributes of their patients.

    Args:
        home: whose pseudonyms hide the names.
        stays: of its cohort.
        attributes: ``subject_id`` and a column an attribute. The names are those of the source: of stays, or of patients
            whose stays all get the same.

    Raises:
        AttributesError: there is no ``subject_id``, one is there twice, none is of a stay, or a column is there already.
    """
    names = [str(name) for name in attributes.columns if name != KEY]
    if KEY not in attributes or not names:
        raise AttributesError(f"attributes: columns {', '.join(map(str, attributes.columns))}; expected {KEY} and others")
    if taken := sorted(set(names) & ({*stays.columns, *STAYS, "age_band", "ward"})):
        raise AttributesError(
            f"attributes: {', '.join(taken)}: the stays have that already; rename the column, or leave it out"
        )
    subject = open_pseudonyms(home.path).subject_keys(attributes[KEY].astype("string"))
    if subject.duplicated().any():
        raise AttributesError(f"attributes: {KEY}: {int(subject.duplicated().sum())} names again; expected one row for each")
    by_name = attributes[names].set_axis(subject.array, axis=0)
    is_named = stays["subject_id"].isin(by_name.index)
    key = stays["subject_id"].where(is_named, stays["subject_id"].map(patient_of))
    if not key.isin(by_name.index).any():
        raise AttributesError(f"attributes: {KEY}: none is of a stay of this home; expected the names that the source gives")
    return stays.assign(**{name: key.map(by_name[name]).array for name in names})


def examine_fairness(
    home: Home,
    stays: pd.DataFrame,
    held_out: EvaluationSet,
    by: Sequence[str] = (),
    attributes: pd.DataFrame | None = None,
) -> Fairness:
    """Examine the default model of an evaluation.

    Args:
        home: of the cohort.
        stays: the stay of each row of the evaluation, with ``index_time``.
        held_out: the evaluation.
        by: attributes; default: those of the stays that divide these patients, and all that are brought.
        attributes: as :func:`join_attributes` takes them.

    Raises:
        AttributeNameError: there is no such attribute, or those that are brought cannot be joined.
    """
    rows = stays if attributes is None else join_attributes(home, stays, attributes)
    membership = assign_attributes(rows, by or [name for name in list_attributes(rows) if name != "site"])
    if not by:
        membership = membership[[name for name in membership if len(membership[name].unique()) > 1]]
    frame = held_out.frame(held_out.default)
    threshold = held_out.candidates[held_out.default].threshold
    membership = membership.set_axis(frame.index, axis=0)
    return Fairness(
        [str(name) for name in membership],
        measure_fairness(frame, membership, threshold, seed=held_out.seed),
        measure_group_calibration(frame, membership),
    )


def describe_fairness(found: Fairness, threshold: float) -> dict[str, Any]:
    """Return the section ``fairness`` of an evaluation, without counts that are too small to show."""
    return {
        "threshold": threshold,
        "by": found.by,
        "groups": hide_small_cells(records_of(found.groups)),
        "calibration": records_of(found.calibration),
    }
