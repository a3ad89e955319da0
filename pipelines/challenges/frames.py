"""Reading a source into one frame of index times, labels and features, without a home."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.features.batch import KEYS, build_features
from vigil.features.catalogue import group_by_view
from vigil.features.declarations import OWN_UNITS
from vigil.features.observations import check
from vigil.models.cohort import index_times, label_index_times
from vigil.models.training.measurement_augmentation import (
    Augmented,
    Way,
    augment,
    evaluation_rows,
    join_parts,
    share_of_negatives,
)
from vigil.pipelines.progress import track
from vigil.pipelines.sources import Source

T = TypeVar("T")
Float32 = NDArray[np.float32]

ROWS = ("subject_id", "index_time", "start", "end", "onset", "onset_known", "label", "unit", "hospital_admitted_at")


def read_frame(source: Source, features: Sequence[str], role: str) -> pd.DataFrame:
    """Read every index time of a source with its label and features.

    Args:
        source: any source. Its task defines the labels.
        features: names of the features.
        role: of the set in the benchmark, for the progress bar.

    Returns:
        Columns :data:`ROWS` and the features (float32), in order of subject and time.
    """
    blocks: list[Float32] = []
    rows = []
    for readings, index in _read_batches(source, role):
        blocks.append(_compute_features(readings, index, features))
        rows.append(index[list(ROWS)])
    return _join_features(pd.concat(rows, ignore_index=True), features, blocks)


def read_augmented(source: Source, features: Sequence[str], role: str) -> tuple[pd.DataFrame, tuple[Augmented, ...]]:
    """Read a source for training: the rows as :func:`read_frame` returns them, and augmented rows of the same patients.

    Args:
        source, features, role: as :func:`read_frame` takes them.
    """
    return _read_with(source, features, role, augment)


def read_compared(source: Source, features: Sequence[str], role: str) -> tuple[pd.DataFrame, tuple[Augmented, ...], Augmented]:
    """Read a source for the comparison of models.

    Args:
        source, features, role: as :func:`read_frame` takes them.

    Returns:
        The rows as measured, the rows of every augmentation, and rows by changed habits that no model learns from.
    """

    def augment_all(*args: Any, **options: Any) -> tuple[Augmented, ...]:
        augmented = augment(*args, **options, ways=get_args(Way))
        return (*augmented, evaluation_rows(*args, **options))

    frame, (*augmented, judging) = _read_with(source, features, role, augment_all)
    return frame, tuple(augmented), judging


def _read_with(
    source: Source, features: Sequence[str], role: str, make_augmented: Callable[..., tuple[Augmented, ...]]
) -> tuple[pd.DataFrame, tuple[Augmented, ...]]:
    """Read a source as measured, and augment each batch with ``make_augmented``."""
    blocks: list[Float32] = []
    rows: list[pd.DataFrame] = []
    augmented: list[Sequence[Augmented]] = []
    share = 0.0
    for readings, index in _read_batches(source, role):
        share = share or share_of_negatives(float((index["label"] == 0).sum()) * len(source))  # batches are of similar size
        blocks.append(_compute_features(readings, index, features))
        rows.append(index[list(ROWS)])
        augmented.append(make_augmented(readings, index, features, negative_share=share))
    as_measured = _join_features(pd.concat(rows, ignore_index=True), features, blocks)
    return as_measured, join_parts(_consume(augmented))


def _read_batches(source: Source, role: str) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Yield the accepted observations and the labelled index of each batch. ``row`` is the position in the whole frame."""
    task, first = source.task, 0
    for batch in track(source.batches(), f"read {role}", len(source)):
        index = label_index_times(index_times(batch.stays, task.index), batch.outcomes, task)
        index = index.sort_values(KEYS, ignore_index=True)
        index["row"] = np.arange(first, first + len(index))
        first += len(index)
        accepted = check(batch.observations, declared=OWN_UNITS).accepted
        yield accepted[accepted["subject_id"].isin(index["subject_id"])], index


def _compute_features(readings: pd.DataFrame, index: pd.DataFrame, features: Sequence[str]) -> Float32:
    return np.asarray(build_features(readings, index, group_by_view(features))[list(features)].to_numpy(np.float32))


def _join_features(keys: pd.DataFrame, features: Sequence[str], blocks: list[Float32]) -> pd.DataFrame:
    """Return the keys with their features. The list of blocks is emptied to save memory."""
    matrix = np.empty((len(features), len(keys)), dtype=np.float32)
    first = 0
    while blocks:  # each block is freed as soon as it is copied, since a whole cohort takes gigabytes
        block = blocks.pop(0)
        matrix[:, first : first + len(block)] = block.T
        first += len(block)
    frame = pd.DataFrame(matrix.T, columns=list(features), copy=False)
    for position, column in enumerate(keys):
        frame.insert(position, column, keys[column])  # not concat, which would copy a gigabyte
    return frame


def _consume(parts: list[T]) -> Iterator[T]:
    """Yield each part and remove it from the list, so that its memory can be freed."""
    while parts:
        yield parts.pop(0)
