"""The offline features on disk: ``<folder>/<view>/part-*.parquet``, a part being some patients, whole.

A file appears whole or not at all, and carries the fingerprint of what it was made from: so a run that was cut off goes on
where it was, and one with new data computes only what is new.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features.catalogue import JOIN_KEY, VIEWS
from features.observations import TIME

_FINGERPRINT: Final = b"vigil.fingerprint"


class FeatureParts:
    """Reads and writes the Parquet files of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __len__(self) -> int:
        """Number of parts of which there is a file in every view."""
        return min(len(list((self.folder / view).glob("part-*.parquet"))) for view in VIEWS)

    def write(self, part: int, features: pd.DataFrame, fingerprint: str) -> None:
        """Write the output of :func:`features.build.build_features` for the patients of one part.

        An index time is both the event and the created timestamp of its row.
        """
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

        with ThreadPoolExecutor(len(VIEWS)) as pool:
            list(pool.map(write_view, VIEWS))

    def holds(self, part: int, fingerprint: str) -> bool:
        """Whether every file of a part is there and made from what the fingerprint says."""
        try:
            return all(_made_from(pq.read_metadata(self._path(view, part))) == fingerprint for view in VIEWS)
        except (FileNotFoundError, pa.ArrowInvalid):
            return False

    def fingerprint(self, part: int) -> str:
        """What a part was made from."""
        return _made_from(pq.read_metadata(self._path(next(iter(VIEWS)), part)))

    def keep(self, parts: int) -> None:
        """Remove all but the first parts, and views that are no longer declared."""
        for path in self.folder.glob("*/part-*"):
            if path.parent.name not in VIEWS or path.suffix != ".parquet" or int(path.stem.removeprefix("part-")) >= parts:
                path.unlink()

    def latest(self, part: int, view: str) -> pd.DataFrame:
        """The last row of each patient of a part."""
        return pd.read_parquet(self._path(view, part)).groupby(JOIN_KEY, sort=False).tail(1)

    def _path(self, view: str, part: int) -> Path:
        return self.folder / view / f"part-{part:05}.parquet"


def _made_from(metadata: pq.FileMetaData) -> str:
    return str((metadata.metadata or {}).get(_FINGERPRINT, b"").decode())
