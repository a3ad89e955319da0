"""A source as one frame: index times, labels and features, without a home."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from features.build import build_features
from features.catalogue import views_of
from features.observations import check
from models.cohort import index_times, label
from models.habits import remeasured
from models.tasks import TASKS
from pipelines.progress import track
from pipelines.sources import Source

ROWS = ("subject_id", "index_time", "start", "end", "onset", "onset_known", "label", "unit", "hospital_admitted_at")


def read(source: Source, features: Sequence[str], what: str, *, elsewhere: bool = False) -> pd.DataFrame:
    """Every index time of a source with its label and features.

    Args:
        source: any; its task says what the labels are.
        features: their names.
        what: the set's part in the benchmark, for the progress bar.
        elsewhere: from the readings that are left under other habits of measuring (:mod:`models.habits`).

    Returns:
        Columns :data:`ROWS` and the features (float32), in order of subject and time.
    """
    task = TASKS[source.task]
    rows, blocks = [], []
    for batch in track(source.batches(), f"read {what}", len(source)):
        index = index_times(batch.stays, task.index)
        accepted = check(batch.observations).accepted
        stray = ~accepted["subject_id"].isin(index["subject_id"])
        readings = remeasured(accepted[~stray]) if elsewhere else accepted[~stray]
        found = build_features(readings, index, views_of(features))
        labelled = label(index, batch.outcomes, task).sort_values(["subject_id", "index_time"], ignore_index=True)
        rows.append(labelled[list(ROWS)])
        blocks.append(found[list(features)].to_numpy(np.float32))
    keys = pd.concat(rows, ignore_index=True)
    matrix = np.empty((len(features), len(keys)), dtype=np.float32)
    first = 0
    while blocks:  # each let go as soon as it is copied: a whole cohort takes gigabytes
        block = blocks.pop(0)
        matrix[:, first : first + len(block)] = block.T
        first += len(block)
    return pd.concat([keys, pd.DataFrame(matrix.T, columns=list(features), copy=False)], axis=1)


def read_twice(source: Source, features: Sequence[str], what: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A source to learn from: as it was measured, and, row by row, as it would have been under other habits."""
    return read(source, features, what), read(source, features, f"{what} under other habits", elsewhere=True)
