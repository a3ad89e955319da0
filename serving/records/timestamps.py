"""Instants between the edge, where they are Python's, and the rest: pandas', and whole microseconds UTC where they are kept."""

from datetime import UTC, datetime
from typing import Final

import pandas as pd

from serving.records.database import instant

SKEW: Final = pd.Timedelta(seconds=5)  # that a clock of somebody else may be ahead of ours; so far ahead is now


def utc(time: datetime) -> pd.Timestamp:
    """An instant in UTC, microseconds."""
    return pd.Timestamp(time).tz_convert("UTC").as_unit("us")


def moment(microseconds: int | None) -> datetime | None:
    """The instant behind a number that was kept; None where none was."""
    return None if microseconds is None else instant(microseconds).to_pydatetime()


def present() -> pd.Timestamp:
    """Now."""
    return pd.Timestamp(datetime.now(UTC)).as_unit("us")


def not_ahead(times: "pd.Series[pd.Timestamp]", now: pd.Timestamp) -> "pd.Series[pd.Timestamp]":
    """Those up to :data:`SKEW` ahead of the present as the present; others as they are."""
    ahead = times - now
    return times.where(~((ahead > pd.Timedelta(0)) & (ahead <= SKEW)), now)
