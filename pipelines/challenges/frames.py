"""A source as one frame: index times, labels and features, without a home."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.batch import KEYS, build_features
from features.catalogue import views_of
from features.observations import check
from models.cohort import index_times, label
from models.tasks import TASKS
from models.training.measurement_augmentation import (
    Augmented,
    Way,
    augment,
    joined,
    judged_by_changed_habits,
    share_of_quiet_rows,
)
from pipelines.progress import track
from pipelines.sources import Source

T = TypeVar("T")
Float32 = NDArray[np.float32]

ROWS = ("subject_id", "index_time", "start", "end", "onset", "onset_known", "label", "unit", "hospital_admitted_at")


def read(source: Source, features: Sequence[str], what: str) -> pd.DataFrame:
    """Read every index time of a source with its label and features.

    Args:
        source: any; its task says what the labels are.
        features: their names.
        what: the set's part in the benchmark, for the progress bar.

    Returns:
        Columns :data:`ROWS` and the features (float32), in order of subject and time.
    """
    blocks: list[Float32] = []
    rows = []
    for readings, index in _parts(source, what):
        blocks.append(_features(readings, index, features))
        rows.append(index[list(ROWS)])
    return _joined(pd.concat(rows, ignore_index=True), features, blocks)


def read_augmented(source: Source, features: Sequence[str], what: str) -> tuple[pd.DataFrame, tuple[Augmented, ...]]:
    """Read a source to learn from: :func:`read`, and its rows as they might have been known in other ways."""
    return _read_ways(source, features, what, augment)


def read_compared(source: Source, features: Sequence[str], what: str) -> tuple[pd.DataFrame, tuple[Augmented, ...], Augmented]:
    """Read a source to compare models on: rows as measured, in all other ways, and by changed habits that none learns from."""

    def make(*args: Any, **options: Any) -> tuple[Augmented, ...]:
        ways = augment(*args, **options, ways=get_args(Way))
        return (*ways, judged_by_changed_habits(*args, **options))

    frame, (*ways, judging) = _read_ways(source, features, what, make)
    return frame, tuple(ways), judging


def _read_ways(
    source: Source, features: Sequence[str], what: str, make: Callable[..., tuple[Augmented, ...]]
) -> tuple[pd.DataFrame, tuple[Augmented, ...]]:
    blocks: list[Float32] = []
    rows: list[pd.DataFrame] = []
    ways: list[Sequence[Augmented]] = []
    share = 0.0
    for readings, index in _parts(source, what):
        share = share or share_of_quiet_rows(float((index["label"] == 0).sum()) * len(source))  # parts are about as large
        blocks.append(_features(readings, index, features))
        rows.append(index[list(ROWS)])
        ways.append(make(readings, index, features, quiet_share=share))
    as_measured = _joined(pd.concat(rows, ignore_index=True), features, blocks)
    return as_measured, joined(_used_up(ways))


def _parts(source: Source, what: str) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """The accepted readings and the labelled index of each batch; ``row``: the position in the frame of all batches."""
    task, first = TASKS[source.task], 0
    for batch in track(source.batches(), f"read {what}", len(source)):
        index = label(index_times(batch.stays, task.index), batch.outcomes, task)
        index = index.sort_values(KEYS, ignore_index=True)
        index["row"] = np.arange(first, first + len(index))
        first += len(index)
        accepted = check(batch.observations).accepted
        yield accepted[accepted["subject_id"].isin(index["subject_id"])], index


def _features(readings: pd.DataFrame, index: pd.DataFrame, features: Sequence[str]) -> Float32:
    return np.asarray(build_features(readings, index, views_of(features))[list(features)].to_numpy(np.float32))


def _joined(keys: pd.DataFrame, features: Sequence[str], blocks: list[Float32]) -> pd.DataFrame:
    """Rows beside their features; the blocks are used up."""
    matrix = np.empty((len(features), len(keys)), dtype=np.float32)
    first = 0
    while blocks:  # each let go as soon as it is copied: a whole cohort takes gigabytes
        block = blocks.pop(0)
        matrix[:, first : first + len(block)] = block.T
        first += len(block)
    frame = pd.DataFrame(matrix.T, columns=list(features), copy=False)
    for place, column in enumerate(keys):
        frame.insert(place, column, keys[column])  # not concat, which would copy a gigabyte
    return frame


def _used_up(parts: list[T]) -> Iterator[T]:
    """Each part, held here no longer."""
    while parts:
        yield parts.pop(0)
