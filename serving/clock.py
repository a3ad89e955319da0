"""What time is it for this patient? Every risk is as of a time, and that time comes from here."""

from pathlib import Path
from typing import Final, Protocol

import pandas as pd

from features.observations import TIME
from serving.times import present

FILE: Final = "replay_clock.parquet"


class Clock(Protocol):
    """The present, for each patient."""

    def now(self, patient_id: str) -> pd.Timestamp:
        """The time as of which this patient's risk is asked, UTC."""
        ...


class WallClock:
    """Live monitoring: now is now."""

    def now(self, patient_id: str) -> pd.Timestamp:  # noqa: ARG002 - the same for everybody
        return present()


class ReplayClock(WallClock):
    """A replayed cohort: now is the last index time of the patient's own stay, so data of 2019 are not stale."""

    def __init__(self, last_index_times: "pd.Series[pd.Timestamp]") -> None:
        self._last = last_index_times.to_dict()

    def now(self, patient_id: str) -> pd.Timestamp:
        return self._last.get(patient_id) or super().now(patient_id)


def keep_replay_clock(home: Path, index: pd.DataFrame) -> None:
    """Make the home a replay: its clock stands at the last ``index_time`` of each ``subject_id``."""
    last = index.groupby("subject_id", sort=False)["index_time"].max().astype(TIME)
    last.rename_axis("subject_id").reset_index().to_parquet(home / FILE, index=False)


def open_clock(home: Path) -> Clock:
    """The replay clock where the home holds one, else the wall clock."""
    path = home / FILE
    if not path.exists():
        return WallClock()
    return ReplayClock(pd.read_parquet(path).set_index("subject_id")["index_time"])
