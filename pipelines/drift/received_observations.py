"""Readings as they came, those that could not be used among them: what faults are named from."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import sqlalchemy as sa

from features.observations import TIME
from models.monitoring.received import COLUMNS, together
from serving.records.database import instant, microsecond, open_database, reading
from serving.records.journal import FILE, METADATA, QUARANTINE, READINGS, REPEATED


def of_journal(home: Path, since: pd.Timestamp, until: pd.Timestamp) -> pd.DataFrame:
    """What the server of a home received after a time, up to another. A home without a server received nothing.

    What was delivered twice was counted, not kept: it is here so often, without a value, as of the hour it came in.
    """
    if not (home / FILE).exists():
        return together(pd.DataFrame(columns=list(COLUMNS)), pd.DataFrame(columns=list(COLUMNS)))
    engine = open_database(home / FILE, METADATA)

    def among(table: sa.Table) -> sa.ColumnElement[bool]:
        return sa.and_(table.c.recorded_at > microsecond(since), table.c.recorded_at <= microsecond(until))

    with reading(engine) as connection:
        used = pd.read_sql(sa.select(READINGS).where(among(READINGS)), connection)
        unused = pd.read_sql(sa.select(QUARANTINE).where(among(QUARANTINE)), connection)
        repeated = pd.read_sql(sa.select(REPEATED).where(among(REPEATED)), connection)
    engine.dispose()
    sent = pd.DataFrame([json.loads(text) for text in unused["reading"]], index=unused.index).reindex(
        columns=["signal", "value", "observed_at", "device_id", "source"]
    )
    unused = unused[["patient", "recorded_at", "reason"]].join(sent)
    unused["observed_at"] = pd.to_datetime(unused["observed_at"], format="ISO8601", utc=True, errors="coerce")
    repeated = repeated.loc[repeated.index.repeat(repeated["times"])].assign(reason="duplicate_message", value=np.nan)
    for table in (used, unused, repeated):
        table["recorded_at"] = _instants(table["recorded_at"])
    used["observed_at"] = _instants(used["observed_at"])
    repeated["observed_at"] = repeated["recorded_at"]
    named = [table.rename(columns={"patient": "subject_id"}) for table in (used, unused, repeated)]
    return together(named[0], pd.concat(named[1:], ignore_index=True))


def _instants(microseconds: "pd.Series[int]") -> "pd.Series[pd.Timestamp]":
    return pd.Series([instant(int(time)) for time in microseconds], index=microseconds.index, dtype=TIME)
