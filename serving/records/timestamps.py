"""Times in records: whole microseconds UTC in tables, pandas timestamps in code, Python datetimes at the edge."""

from datetime import UTC, datetime
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.features.observations import TIME

SKEW: Final = pd.Timedelta(seconds=5)  # by which a sender's clock may be ahead of ours; such times count as the present


def present() -> pd.Timestamp:
    """Return the present."""
    return pd.Timestamp(datetime.now(UTC)).as_unit("us")


def utc(time: datetime) -> pd.Timestamp:
    """Return an instant in UTC, in microseconds."""
    return pd.Timestamp(time).tz_convert("UTC").as_unit("us")


def instant(microseconds: int) -> pd.Timestamp:
    """Return the time of a number of microseconds since 1970, UTC."""
    return pd.Timestamp(microseconds, unit="us", tz="UTC").as_unit("us")


def microsecond(time: pd.Timestamp) -> int:
    """Return the number of microseconds since 1970 of a time."""
    return int(time.to_datetime64().astype("datetime64[us]").astype(np.int64))


def moment(microseconds: int | None) -> datetime | None:
    """Return the datetime of a stored number; None if there is none."""
    return None if microseconds is None else instant(microseconds).to_pydatetime()


def instants(microseconds: "pd.Series[int]") -> "pd.Series[pd.Timestamp]":
    """Return the times of stored numbers."""
    values = np.asarray(microseconds, dtype=np.int64).astype("datetime64[us]")
    return pd.Series(values, index=microseconds.index, dtype="datetime64[us]").dt.tz_localize("UTC").astype(TIME)


def microseconds(times: "pd.Series[pd.Timestamp]") -> NDArray[np.int64]:
    """Return the numbers under which times are stored."""
    return np.asarray(times.to_numpy("datetime64[us]").astype(np.int64))


def not_ahead(times: "pd.Series[pd.Timestamp]", now: pd.Timestamp) -> "pd.Series[pd.Timestamp]":
    """Return times in which those up to :data:`SKEW` ahead of the present are the present."""
    ahead = times - now
    return times.where(~((ahead > pd.Timedelta(0)) & (ahead <= SKEW)), now)
