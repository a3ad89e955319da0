"""A source as one frame: index times, labels and features, without a home."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.build import build_features
from features.catalogue import views_of
from features.observations import check
from models.cohort import index_times, label
from models.habits import remeasured
from models.tasks import TASKS
from pipelines.progress import track
from pipelines.sources import Source

Float32 = NDArray[np.float32]

ROWS = ("subject_id", "index_time", "start", "end", "onset", "onset_known", "label", "unit", "hospital_admitted_at")


def read(source: Source, features: Sequence[str], what: str) -> pd.DataFrame:
    """Every index time of a source with its label and features.

    Args:
        source: any; its task says what the labels are.
        features: their names.
        what: the set's part in the benchmark, for the progress bar.

    Returns:
        Columns :data:`ROWS` and the features (float32), in order of subject and time.
    """
    (frame,) = _read(source, features, what, [lambda readings: readings])
    return frame


def read_twice(source: Source, features: Sequence[str], what: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A source to learn from: as it was measured, and, row by row, as it would have been under other habits."""
    as_measured, elsewhere = _read(source, features, what, [lambda readings: readings, remeasured])
    return as_measured, elsewhere


def _read(
    source: Source, features: Sequence[str], what: str, ways: Sequence[Callable[[pd.DataFrame], pd.DataFrame]]
) -> list[pd.DataFrame]:
    """A frame for each way of choosing among the readings, all of one pass over the source."""
    task = TASKS[source.task]
    rows: list[pd.DataFrame] = []
    blocks: list[list[Float32]] = [[] for _ in ways]
    for batch in track(source.batches(), f"read {what}", len(source)):
        index = index_times(batch.stays, task.index)
        accepted = check(batch.observations).accepted
        readings = accepted[accepted["subject_id"].isin(index["subject_id"])]
        for chosen, of_way in zip(ways, blocks, strict=True):
            found = build_features(chosen(readings), index, views_of(features))
            of_way.append(found[list(features)].to_numpy(np.float32))
        labelled = label(index, batch.outcomes, task).sort_values(["subject_id", "index_time"], ignore_index=True)
        rows.append(labelled[list(ROWS)])
    keys = pd.concat(rows, ignore_index=True)
    return [_joined(keys, features, of_way) for of_way in blocks]


def _joined(keys: pd.DataFrame, features: Sequence[str], blocks: list[Float32]) -> pd.DataFrame:
    """Rows beside their features; the blocks are used up."""
    matrix = np.empty((len(features), len(keys)), dtype=np.float32)
    first = 0
    while blocks:  # each let go as soon as it is copied: a whole cohort takes gigabytes
        block = blocks.pop(0)
        matrix[:, first : first + len(block)] = block.T
        first += len(block)
    return pd.concat([keys, pd.DataFrame(matrix.T, columns=list(features), copy=False)], axis=1)
