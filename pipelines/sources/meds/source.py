"""A cohort that Vigil exported as MEDS, read back: the same subjects, observations, stays, outcomes and splits."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vigil.features.observations import TIME, to_resolution
from vigil.features.pseudonyms import is_subject_key
from vigil.pipelines.sources import Batch, SourceError
from vigil.pipelines.sources._shared.origin import OUTCOME, ExportedCohort
from vigil.pipelines.sources.meds.vocabulary import (
    AGE,
    ATTRIBUTE,
    EXTENSIONS,
    SEXES,
    SIGNAL_OF,
    START,
    STAY,
    SUPERSEDED,
    TIMES,
)

_READ: Final = ("time", "code", "numeric_value", "text_value", *(name for names in EXTENSIONS.values() for name in names))
_OBSERVED: Final = ("time", "numeric_value", "text_value", "recorded_at", "superseded_at", "device_id", "source", "message_id")


class MedsExport(ExportedCohort):
    """A data set that ``vigil cohort export --format meds`` wrote.

    Attributes:
        left_out: number of events whose code an export does not write, by file and code.

    Raises:
        SourceError: the folder holds no such data set.
    """

    def __init__(self, data: Path) -> None:
        super().__init__(data)
        self.left_out = {}
        self._shards: dict[int, list[Path]] = {}
        for path in sorted((data / "data").glob("*/*.parquet")):
            if not path.stem.isdecimal():
                raise SourceError(f"{path}: expected shards named by numbers, such as 0.parquet; remove or rename the file")
            self._shards.setdefault(int(path.stem), []).append(path)
        if not self._shards:
            raise SourceError(f"--data {data}: no shard in it; expected files such as data/train/0.parquet")

    def __len__(self) -> int:
        return len(self._shards)

    def batches(self) -> Iterator[Batch]:
        for shard in sorted(self._shards):
            yield self._read(self._shards[shard])

    def _read(self, paths: list[Path]) -> Batch:
        events = join_shards([_read_table(path) for path in paths])
        others = Counter(events.loc[events["code"].isin(_unknown_codes(events)), "code"])
        if others:
            self.left_out = {**self.left_out, f"shard {paths[0].stem}": dict(others)}
        return batch_of(events)


def _read_table(path: Path) -> pa.Table:
    try:
        present = pq.read_schema(path).names
        if missing := [name for name in _READ if name not in present]:
            raise SourceError(f"{path}: no column {', '.join(missing)}; expected those that an export writes; export it again")
        table = pq.read_table(path, columns=list(_READ), read_dictionary=["code", "source", "device_id", STAY])
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{path}: cannot be read ({type(error).__name__}); export the cohort again") from None
    unclear = sum(not is_subject_key(str(key)) for key in table[STAY].unique().to_pylist())
    if unclear:
        raise SourceError(f"{path}: {STAY}: {unclear} are no pseudonyms; expected in each row one that an export writes")
    return table


def join_shards(tables: list[pa.Table]) -> pd.DataFrame:
    """Return the events of several files of one shard, with their times in UTC."""
    events: pd.DataFrame = pa.concat_tables(tables, promote_options="permissive").unify_dictionaries().to_pandas()
    for name in ("time", "recorded_at", "superseded_at"):
        events[name] = events[name].dt.tz_localize("UTC").astype(TIME)
    return events


def batch_of(events: pd.DataFrame) -> Batch:
    """Return the cohort that events of an export hold, with values at the resolution of their signals."""
    return Batch(_observations(events), _stays(events), _outcomes(events))


def _unknown_codes(events: pd.DataFrame) -> list[str]:
    """Return the codes that an export does not write."""
    known = {AGE, *SEXES, *TIMES, *SIGNAL_OF}
    codes = [code for code in events["code"].cat.categories if not code.startswith((ATTRIBUTE, *OUTCOME.values()))]
    return [code for code in codes if code.removeprefix(SUPERSEDED) not in known]


def _observations(events: pd.DataFrame) -> pd.DataFrame:
    signal_of = {code: SIGNAL_OF.get(code.removeprefix(SUPERSEDED)) for code in events["code"].cat.categories}
    signal = events["code"].astype(object).map(signal_of)
    rows = events.loc[signal.notna(), [STAY, *_OBSERVED]]
    rows = rows.rename(columns={STAY: "subject_id", "time": "observed_at", "numeric_value": "value"})
    rows = rows.assign(signal=signal[signal.notna()].astype("category"))
    # Before any check: as float32 the least plausible value, 0.01, lies below itself.
    value = rows["value"].to_numpy("float64", copy=True)
    is_full = rows["text_value"].notna().to_numpy()
    value[is_full] = pd.to_numeric(rows.pop("text_value")[is_full], errors="coerce")
    rows["value"] = to_resolution(value, rows["signal"])
    rows["subject_id"] = rows["subject_id"].astype("string")
    if rows["superseded_at"].isna().all():
        rows = rows.drop(columns="superseded_at")
    return rows.reset_index(drop=True)


def _stays(events: pd.DataFrame) -> pd.DataFrame:
    own = {code: _once(events, code) for code in (*TIMES, AGE)}
    start = own[START]
    stays = pd.DataFrame(index=start.index)
    for code, name in TIMES.items():
        stays[name] = own[code]["time"].reindex(start.index)
    stays["age"] = own[AGE]["text_value"].astype("float64").reindex(start.index)
    stays["sex"] = np.nan
    for code, sex in SEXES.items():
        stays.loc[stays.index.isin(_once(events, code).index), "sex"] = sex
    stays["site"], stays["unit"] = start["site"].astype("string"), start["ward"].astype("string")
    for code in events["code"].cat.categories:
        if code.startswith(ATTRIBUTE) and len(rows := _once(events, code)):
            is_number = rows["numeric_value"].notna().all()
            stays[code.removeprefix(ATTRIBUTE)] = rows["text_value"].astype("float64" if is_number else "string")
    return stays.rename_axis("subject_id").reset_index().sort_values("subject_id", ignore_index=True)


def _once(events: pd.DataFrame, code: str) -> pd.DataFrame:
    """Return the events of a code by stay."""
    rows = events[events["code"] == code]
    own = rows.set_index(rows[STAY].astype("string"))
    if own.index.has_duplicates:
        raise SourceError(f"{code}: a stay has two; expected one; export the cohort again")
    return own


def _outcomes(events: pd.DataFrame) -> pd.DataFrame:
    parts = []
    for known, prefix in OUTCOME.items():
        rows = events[events["code"].isin([code for code in events["code"].cat.categories if code.startswith(prefix)])]
        kind = rows["code"].astype("string").str.removeprefix(prefix)
        parts.append(
            pd.DataFrame({"subject_id": rows[STAY].astype("string"), "onset": rows["time"], "kind": kind, "onset_known": known})
        )
    return pd.concat(parts).sort_values("subject_id", ignore_index=True)
