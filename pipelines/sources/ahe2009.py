"""PhysioNet/Computing in Cardiology Challenge 2009: acute hypotension in the next hour, from one-minute arterial pressure.

Moody GB, Lehman LH. Predicting acute hypotensive episodes: the 10th annual PhysioNet/Computers in Cardiology challenge.
Comput Cardiol 2009;36:541-544. Each record has ten hours of mean arterial pressure (mmHg, one value a minute) before the
forecast start T0. An episode lasts at least 30 minutes within the hour after T0, of which 90 % are at or below 60 mmHg.

``ahe_label`` is the challenge's label. Only the training records hold the hour after T0, from which the label can be checked.
There the definition is met by 26 of the 30 records with an episode and by none of the 30 without one. In three of the other
four the pressure falls within the hour, but the data end before the thirty minutes are complete.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pandas as pd

from vigil.features.observations import TIME
from vigil.features.signals import SIGNALS
from vigil.models.tasks import TASKS
from vigil.pipelines.sources import Batch, Source, SourceError
from vigil.pipelines.sources._shared.parquet import read_columns
from vigil.pipelines.sources._shared.wide import to_observations

T0: Final = pd.Timestamp("2009-01-01T00:00:00Z").as_unit(
    "us"
)  # the data have no calendar dates; every forecast starts at this time
HORIZON_MINUTES: Final = 60  # after T0; an episode within them counts
EPISODE_MINUTES: Final = 30
LOW_PRESSURE: Final = 60.0  # mmHg
LOW_SHARE: Final = 0.9
DEFAULT_ONSET_MINUTES: Final = 30  # after T0, the middle of the hour, where the data do not show the episode


class Ahe2009(Source):
    """A folder of map_1min.parquet and records.parquet: all records, or those of one split (train, testA, testB).

    Raises:
        SourceError: a table is missing, lacks a column or holds unexpected values, or there is no such split.
    """

    name = "ahe2009"
    deidentified = True
    task = TASKS["hypotension"]

    def __init__(self, data: Path, split: str | None = None) -> None:
        if not data.is_dir():
            raise SourceError(f"--data {data}: expected the folder of map_1min.parquet and records.parquet; there is none")
        self._records = _read_records(data / "records.parquet", split)
        self._path = data / "map_1min.parquet"
        pressure = read_columns(self._path, "record", "minute", "map_mmHg").astype({"record": "string", "map_mmHg": float})
        if not pd.api.types.is_integer_dtype(pressure["minute"].dtype):
            raise SourceError(f"{self._path}: minute: type {pressure['minute'].dtype}; expected whole minutes from T0")
        pressure = pressure[pressure["record"].isin(self._records.index)].sort_values(["record", "minute"])
        self._before, self._after = pressure[pressure["minute"] < 0], pressure[pressure["minute"] >= 0]
        if absent := sorted(set(self._records.index) - set(self._before["record"])):
            raise SourceError(f"{self._path}: no minute before T0 in record {absent[0]}; expected at least one in every record")
        if pressure.duplicated(["record", "minute"]).any():
            raise SourceError(f"{self._path}: minute: repeated within a record; expected one value a minute")

    def __len__(self) -> int:
        return 1

    def batches(self) -> Iterator[Batch]:
        time = (T0 + pd.to_timedelta(self._before["minute"], unit="min")).astype(TIME)
        rows = self._before.assign(subject_id=self._before["record"], time=time).reset_index(drop=True)
        yield Batch(
            observations=to_observations(rows, {"mean_bp": rows["map_mmHg"]}, self._path.name),
            stays=_stays(rows),
            outcomes=self._outcomes(),
        )

    def _outcomes(self) -> pd.DataFrame:
        with_episode = self._records.index[self._records["ahe_label"] == 1]
        after = dict(iter(self._after.groupby("record")))
        minutes = [find_first_episode(after[record]) if record in after else None for record in with_episode]
        after_t0 = pd.to_timedelta([DEFAULT_ONSET_MINUTES if minute is None else minute for minute in minutes], unit="min")
        # An episode that has begun in the first minute still lies ahead of a forecast made at T0.
        onset = pd.Series(T0 + after_t0.where(after_t0 > pd.Timedelta(0), pd.Timedelta(microseconds=1))).astype(TIME)
        return pd.DataFrame(
            {"subject_id": with_episode.astype("string"), "onset": onset, "kind": "acute_hypotension", "onset_known": True}
        )


def find_first_episode(after: pd.DataFrame) -> int | None:
    """Return the first minute of the first episode in the hour after T0, or None where the data show no episode.

    Args:
        after: ``minute`` (0 is T0) and ``map_mmHg`` of one record. A missing or implausible value does not count as low.

    Example:
        >>> find_first_episode(pd.DataFrame({"minute": range(60), "map_mmHg": [75.0] * 20 + [55.0] * 40}))
        17
    """
    pressure = after.set_index("minute")["map_mmHg"].reindex(range(HORIZON_MINUTES))
    low = pressure.between(SIGNALS["mean_bp"].low, LOW_PRESSURE)
    # True at the last minute of each thirty that form an episode.
    complete = (low.rolling(EPISODE_MINUTES).sum() >= LOW_SHARE * EPISODE_MINUTES).to_numpy()
    return int(complete.argmax()) - EPISODE_MINUTES + 1 if complete.any() else None


def _read_records(path: Path, split: str | None) -> pd.DataFrame:
    records = read_columns(path, "record", "split", "ahe_label").astype({"record": "string"})
    if records["record"].duplicated().any():
        raise SourceError(f"{path}: record: a record twice; expected one row for each")
    if not records["ahe_label"].isin((0, 1)).all():
        raise SourceError(f"{path}: ahe_label: expected 0 or 1 in every row")
    if split is not None:
        known = sorted(records["split"].unique())
        records = records[records["split"] == split]
        if records.empty:
            raise SourceError(f"{path}: no split {split}; choose one of {', '.join(known)}")
    return records.sort_values("record").set_index("record")


def _stays(rows: pd.DataFrame) -> pd.DataFrame:
    first = rows.groupby("subject_id")["time"].first()
    unknown = pd.Series(pd.NaT, index=range(len(first)), dtype=TIME)
    return pd.DataFrame(
        {
            "subject_id": first.index.astype("string"),
            # Index times count from the start. It lies whole hours before T0, so that T0 is an index time.
            "start": (T0 - (T0 - first).dt.ceil("h")).astype(TIME).array,
            "end": pd.Series(T0, index=range(len(first)), dtype=TIME),
            "unit_admitted_at": unknown,
            "hospital_admitted_at": unknown,
            "age": float("nan"),
            "sex": float("nan"),
            "site": "ahe2009",
            "unit": pd.Series(pd.NA, index=range(len(first)), dtype="string"),
        }
    )
