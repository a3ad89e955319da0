"""Readings as they came, those that could not be used among them: what faults are named from."""

import json
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from features.observations import TIME, check, numbers
from pipelines.cohort_store import CohortStore
from serving.database import instant, microsecond, open_database, reading
from serving.journal import FILE, METADATA, QUARANTINE, READINGS, REPEATED

# ``value`` is a number or NaN; ``reason`` is why a reading was not used (features.observations.REASONS), or empty.
COLUMNS: Final = ("subject_id", "signal", "value", "observed_at", "recorded_at", "device_id", "source", "reason")
REPEATS: Final = ("duplicate_message", "duplicate_reading")


def checked(readings: pd.DataFrame) -> pd.DataFrame:
    """Unchecked readings (the columns of :mod:`features.observations`) as they came: :data:`COLUMNS`, in order of arrival."""
    found = check(readings)
    return _together(found.accepted, found.quarantined)


def of_cohort(cohort: CohortStore, part: int) -> pd.DataFrame:
    """What came of the subjects of one part of an ingested cohort."""
    return _together(cohort.read_part("observations", part), cohort.read_part("quarantine", part))


def of_journal(home: Path, since: pd.Timestamp, until: pd.Timestamp) -> pd.DataFrame:
    """What the server of a home received after a time, up to another. A home without a server received nothing.

    What was delivered twice was counted, not kept: it is here so often, without a value, as of the hour it came in.
    """
    if not (home / FILE).exists():
        return _together(pd.DataFrame(columns=list(COLUMNS)), pd.DataFrame(columns=list(COLUMNS)))
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
    return _together(named[0], pd.concat(named[1:], ignore_index=True))


def _together(accepted: pd.DataFrame, quarantined: pd.DataFrame) -> pd.DataFrame:
    unused = quarantined.reindex(columns=list(COLUMNS))
    unused = unused.assign(value=numbers(unused["value"]), recorded_at=unused["recorded_at"].fillna(unused["observed_at"]))
    parts = [accepted.assign(reason="")[list(COLUMNS)], unused]
    for column in ("observed_at", "recorded_at"):
        for part in parts:
            part[column] = pd.to_datetime(part[column], utc=True).astype(TIME)
    rows = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
    # Of what came without a time it is known when it came, and it counts as what it is: unused.
    rows = rows.assign(observed_at=rows["observed_at"].fillna(rows["recorded_at"]))
    rows = rows[rows["recorded_at"].notna()]
    for column in ("subject_id", "signal", "device_id", "source", "reason"):
        rows[column] = rows[column].astype(object).where(rows[column].notna(), "").astype(str).astype("category")
    return rows.iloc[np.argsort(rows["recorded_at"].to_numpy("datetime64[us]"), kind="stable")].reset_index(drop=True)


def _instants(microseconds: "pd.Series[int]") -> "pd.Series[pd.Timestamp]":
    return pd.Series([instant(int(time)) for time in microseconds], index=microseconds.index, dtype=TIME)
