"""A cohort replayed as if it happened now: its readings in order of arrival, who the patients are, what became of them."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from features.batch import build_features
from features.catalogue import service_views
from models.cohort import index_times
from models.monitoring.received import checked
from models.registry import RegisteredModel
from pipelines.sources import Source

BEDS: Final = 60  # in which patients lie who were all admitted on one date, as de-identified cohorts have it
GATEWAYS: Final = 4


@dataclass(frozen=True)
class Replay:
    """A cohort as it would come.

    Attributes:
        readings: unchecked, the columns of :mod:`features.observations`, in order of arrival.
        stays, outcomes: as sources give them.
        log: what was predicted; the columns of :func:`predictions`. None: nothing was.
    """

    readings: pd.DataFrame
    stays: pd.DataFrame
    outcomes: pd.DataFrame
    log: pd.DataFrame | None = None


def replay_of(source: Source) -> Replay:
    """All of a source. Where it has no devices and gateways, or no calendar, they are given by a fixed rule.

    The rule: patients come in the order of the source and lie in :data:`BEDS` beds, each in that which is free first; a monitor
    belongs to a bed, and a gateway to every fourth of them, or to a hospital where the source names several.
    """
    batches = list(source.batches())
    readings = pd.concat([batch.observations for batch in batches], ignore_index=True)
    stays = pd.concat([batch.stays for batch in batches], ignore_index=True)
    outcomes = pd.concat([batch.outcomes for batch in batches], ignore_index=True)
    if "device_id" in readings and readings["device_id"].notna().any():
        return Replay(_in_order(readings), stays, outcomes)
    readings, stays, outcomes = in_beds(readings, stays, outcomes)
    return Replay(_in_order(readings), stays, outcomes)


def in_beds(
    readings: pd.DataFrame, stays: pd.DataFrame, outcomes: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Patients one after another in the beds of a ward (see :func:`replay_of`); times within a stay stay as they are."""
    length = (stays["end"] - stays["start"]).to_numpy() + np.timedelta64(1, "h")
    free = np.full(BEDS, stays["start"].min().to_datetime64().astype("datetime64[us]"))
    bed, moved = np.empty(len(stays), dtype=np.int64), np.empty(len(stays), dtype="timedelta64[us]")
    start = stays["start"].to_numpy("datetime64[us]")
    # Whole hours, since charts keep them; the beds fill one an hour, or every stay would begin on the same day.
    free += np.arange(BEDS) * np.timedelta64(1, "h")
    for place in range(len(stays)):
        bed[place] = np.argmin(free)
        moved[place] = free[bed[place]] - start[place]
        free[bed[place]] += length[place]
    by = pd.DataFrame({"moved": moved, "bed": bed}, index=stays["subject_id"])
    sites = stays["site"].nunique()
    hospitals = pd.Series(stays["site"].astype(str).to_numpy(), index=stays["subject_id"])

    def at(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
        shift = pd.Series(by["moved"].reindex(table["subject_id"]).to_numpy(), index=table.index)
        return table.assign(**{column: table[column] + shift for column in columns if column in table})

    of_bed = by["bed"].reindex(readings["subject_id"]).to_numpy()
    gateway = (
        "hospital-" + hospitals.reindex(readings["subject_id"]).to_numpy().astype(object)
        if sites > 1
        else np.array([f"gateway-{number % GATEWAYS + 1}" for number in range(BEDS)], dtype=object)[of_bed]
    )
    readings = at(readings, "observed_at", "recorded_at").assign(
        device_id=np.array([f"monitor-{number + 1:02d}" for number in range(BEDS)], dtype=object)[of_bed],
        source=gateway,
        message_id=pd.RangeIndex(len(readings)).astype(str),
    )
    if "recorded_at" not in readings:
        readings["recorded_at"] = readings["observed_at"]
    times = ("start", "end", "unit_admitted_at", "hospital_admitted_at")
    return readings, at(stays, *times), at(outcomes, "onset")


def predictions(replay: Replay, registered: RegisteredModel, since: pd.Timestamp, until: pd.Timestamp) -> pd.DataFrame:
    """What the model says of everybody, every full hour of his stay after a time and up to another.

    Returns:
        ``subject_id, index_time, probability, model_version, feature_service`` and the model's features.
    """
    stays = replay.stays[(replay.stays["end"] > since) & (replay.stays["start"] < until)]
    index = index_times(stays)
    index = index[(index["index_time"] > since) & (index["index_time"] <= until)]
    rows = replay.readings[replay.readings["subject_id"].isin(index["subject_id"])]
    rows = rows[(rows["recorded_at"] <= until).to_numpy()]
    usable = checked(rows)
    usable = usable[usable["reason"] == ""].drop(columns="reason")
    views = service_views(registered.feature_service)
    features = build_features(usable, index.reset_index(drop=True), views)
    said = features[["subject_id", "index_time"]].assign(
        probability=registered.model.predict_proba(features)[:, 1],
        model_version=registered.version,
        feature_service=registered.feature_service,
    )
    return pd.concat([said, features[list(registered.model.features)]], axis=1)


def _in_order(readings: pd.DataFrame) -> pd.DataFrame:
    return readings.iloc[np.argsort(readings["recorded_at"].to_numpy("datetime64[us]"), kind="stable")].reset_index(drop=True)
