"""Instants between the edge, where they are Python's, and the rest, where they are pandas' in microseconds UTC."""

from datetime import UTC, datetime

import pandas as pd


def utc(time: datetime) -> pd.Timestamp:
    """An instant in UTC, microseconds."""
    return pd.Timestamp(time).tz_convert("UTC").as_unit("us")


def present() -> pd.Timestamp:
    """Now."""
    return pd.Timestamp(datetime.now(UTC)).as_unit("us")
