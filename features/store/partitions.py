"""The offline features on disk: ``<folder>/<view>/part-*.parquet``. A partition holds all rows of some patients.

A file is written completely or not at all. It carries a fingerprint of the data and code that it was computed from. So an
interrupted run continues where it stopped, and a run with new data computes only the partitions that changed.
"""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vigil.features.catalogue import VIEWS, group_by_view
from vigil.features.observations import TIME

_FINGERPRINT: Final = b"vigil.fingerprint"


class FeaturePartitions:
    """The Parquet partitions of features in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views that have files."""
        return tuple(view for view in VIEWS if any((self.folder / view).glob("part-*.parquet")))

    def __len__(self) -> int:
        """Return the number of partitions that have a file in every view."""
        return min((len(list((self.folder / view).glob("part-*.parquet"))) for view in self.views), default=0)

    def write(self, partition: int, features: pd.DataFrame, fingerprint: str) -> None:
        """Write the features of one partition: a file for each view that the features contain.

        The index time is both the event timestamp and the created timestamp of a row.

        Args:
            partition: Number of the partition.
            features: Output of :func:`vigil.features.batch.build_features` for the patients of the partition.
            fingerprint: Fingerprint of the data and code that the features were computed from.
        """
        views = list(group_by_view(features.columns))
        times = pa.array(features["index_time"].astype(TIME))
        keys = {
            "subject_id": pa.array(features["subject_id"].astype(object)),
            "event_timestamp": times,
            "created_timestamp": times,
        }

        def write_view(view: str) -> None:
            members = [feature.name for feature in VIEWS[view]]
            table = pa.table({**keys, **{name: pa.array(features[name].to_numpy()) for name in members}})
            path = self._path(view, partition)
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".unfinished")
            with_fingerprint = table.replace_schema_metadata({_FINGERPRINT: fingerprint})
            pq.write_table(with_fingerprint, unfinished, compression="zstd", use_dictionary=["subject_id"])
            unfinished.replace(path)

        with ThreadPoolExecutor(len(views)) as pool:
            list(pool.map(write_view, views))

    def is_current(self, partition: int, fingerprint: str, views: Collection[str]) -> bool:
        """Return whether a partition has a file with this fingerprint in each of the views."""
        try:
            return all(_fingerprint_in(pq.read_metadata(self._path(view, partition))) == fingerprint for view in views)
        except (FileNotFoundError, pa.ArrowInvalid):
            return False

    def read_fingerprint(self, partition: int) -> str:
        """Return the fingerprint of a partition."""
        return _fingerprint_in(pq.read_metadata(self._path(self.views[0], partition)))

    def remove_all_but(self, count: int, views: Collection[str]) -> None:
        """Remove all files except those of the first ``count`` partitions of these views."""
        for path in self.folder.glob("*/part-*"):
            if path.parent.name not in views or path.suffix != ".parquet" or int(path.stem.removeprefix("part-")) >= count:
                path.unlink()

    def read_latest(self, partition: int, view: str) -> pd.DataFrame:
        """Read the last row of each patient of a partition."""
        return pd.read_parquet(self._path(view, partition)).groupby("subject_id", sort=False).tail(1)

    def _path(self, view: str, partition: int) -> Path:
        return self.folder / view / f"part-{partition:05}.parquet"


def _fingerprint_in(metadata: pq.FileMetaData) -> str:
    return str((metadata.metadata or {}).get(_FINGERPRINT, b"").decode())
