"""The offline features on disk: ``<folder>/<view>/part-*.parquet``, a part being some patients, whole.

A file appears whole or not at all, and carries the fingerprint of what it was made from: so a run that was cut off goes on
where it was, and one with new data computes only what is new.
"""

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features.catalogue import JOIN_KEY, VIEWS, views_of
from features.observations import TIME

_FINGERPRINT: Final = b"vigil.fingerprint"


class FeatureParts:
    """Reads and writes the Parquet files of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def views(self) -> tuple[str, ...]:
        """The views of which there are files: those that were built here."""
        return tuple(view for view in VIEWS if any((self.folder / view).glob("part-*.parquet")))

    def __len__(self) -> int:
        """Number of parts of which there is a file in each of the views."""
        return min((len(list((self.folder / view).glob("part-*.parquet"))) for view in self.views), default=0)

    def write(self, part: int, features: pd.DataFrame, fingerprint: str) -> None:
        """Write the output of :func:`features.batch.build_features` for the patients of one part, the views it holds.

        An index time is both the event and the created timestamp of its row.
        """
        views = list(views_of(features.columns))
        times = pa.array(features["index_time"].astype(TIME))
        keys = {
            JOIN_KEY: pa.array(features["subject_id"].astype(object)),
            "event_timestamp": times,
            "created_timestamp": times,
        }

        def write_view(view: str) -> None:
            members = [feature.name for feature in VIEWS[view]]
            table = pa.table({**keys, **{name: pa.array(features[name].to_numpy()) for name in members}})
            path = self._path(view, part)
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".unfinished")
            marked = table.replace_schema_metadata({_FINGERPRINT: fingerprint})
            pq.write_table(marked, unfinished, compression="zstd", use_dictionary=[JOIN_KEY])
            unfinished.replace(path)

        with ThreadPoolExecutor(len(views)) as pool:
            list(pool.map(write_view, views))

    def holds(self, part: int, fingerprint: str, views: Collection[str]) -> bool:
        """Whether the file of a part is there in each of the views, and made from what the fingerprint says."""
        try:
            return all(_made_from(pq.read_metadata(self._path(view, part))) == fingerprint for view in views)
        except (FileNotFoundError, pa.ArrowInvalid):
            return False

    def fingerprint(self, part: int) -> str:
        """What a part was made from."""
        return _made_from(pq.read_metadata(self._path(self.views[0], part)))

    def keep(self, parts: int, views: Collection[str]) -> None:
        """Remove all but the first parts of these views."""
        for path in self.folder.glob("*/part-*"):
            if path.parent.name not in views or path.suffix != ".parquet" or int(path.stem.removeprefix("part-")) >= parts:
                path.unlink()

    def latest(self, part: int, view: str) -> pd.DataFrame:
        """The last row of each patient of a part."""
        return pd.read_parquet(self._path(view, part)).groupby(JOIN_KEY, sort=False).tail(1)

    def _path(self, view: str, part: int) -> Path:
        return self.folder / view / f"part-{part:05}.parquet"


def _made_from(metadata: pq.FileMetaData) -> str:
    return str((metadata.metadata or {}).get(_FINGERPRINT, b"").decode())
