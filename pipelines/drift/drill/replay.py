"""Replays: a cohort played as if it were live, with its readings in order of arrival, its patients and their outcomes."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from vigil.features.batch import build_features
from vigil.features.catalogue import service_views
from vigil.features.declarations import OWN_UNITS
from vigil.features.observations import check
from vigil.models.cohort import index_times
from vigil.models.registry import RegisteredModel
from vigil.pipelines.sources import Source

BEDS: Final = 60  # for cohorts that admit all patients on one date, as de-identified ones do
GATEWAYS: Final = 4


@dataclass(frozen=True)
class Replay:
    """A cohort as it would arrive.

    Attributes:
        readings: unchecked, the columns of :mod:`vigil.features.observations`, in order of arrival.
        stays, outcomes: as in a source.
        log: predictions, the columns of :func:`predict_hourly`. None: there are none.
    """

    readings: pd.DataFrame
    stays: pd.DataFrame
    outcomes: pd.DataFrame
    log: pd.DataFrame | None = None


def build_replay(source: Source) -> Replay:
    """Make a replay of a whole source.

    A source without devices and gateways, or without a calendar, gets them by a fixed rule. Patients come in the order of the
    source and lie in :data:`BEDS` beds, each in the bed that is free first. Each bed has a monitor. A gateway serves every
    fourth bed, or a hospital where the source names several.
    """
    batches = list(source.batches())
    readings = pd.concat([batch.observations for batch in batches], ignore_index=True)
    stays = pd.concat([batch.stays for batch in batches], ignore_index=True)
    outcomes = pd.concat([batch.outcomes for batch in batches], ignore_index=True)
    if "device_id" not in readings or not readings["device_id"].notna().any():
        readings, stays, outcomes = assign_beds(readings, stays, outcomes)
    order = np.argsort(readings["recorded_at"].to_numpy("datetime64[us]"), kind="stable")
    return Replay(readings.iloc[order].reset_index(drop=True), stays, outcomes)


def assign_beds(
    readings: pd.DataFrame, stays: pd.DataFrame, outcomes: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Put patients one after another into the beds of a ward (see :func:`build_replay`); times within a stay do not change."""
    length = (stays["end"] - stays["start"]).to_numpy() + np.timedelta64(1, "h")
    free = np.full(BEDS, stays["start"].min().to_datetime64().astype("datetime64[us]"))
    bed, moved = np.empty(len(stays), dtype=np.int64), np.empty(len(stays), dtype="timedelta64[us]")
    start = stays["start"].to_numpy("datetime64[us]")
    # By whole hours, since charts have them. The beds fill one an hour, or all stays would begin on the same day.
    free += np.arange(BEDS) * np.timedelta64(1, "h")
    for stay in range(len(stays)):
        bed[stay] = np.argmin(free)
        moved[stay] = free[bed[stay]] - start[stay]
        free[bed[stay]] += length[stay]
    by_subject = pd.DataFrame({"moved": moved, "bed": bed}, index=stays["subject_id"])
    sites = stays["site"].nunique()
    hospitals = pd.Series(stays["site"].astype(str).to_numpy(), index=stays["subject_id"])

    def shift(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
        by = pd.Series(by_subject["moved"].reindex(table["subject_id"]).to_numpy(), index=table.index)
        return table.assign(**{column: table[column] + by for column in columns if column in table})

    bed_of_reading = by_subject["bed"].reindex(readings["subject_id"]).to_numpy()
    gateway = (
        "hospital-" + hospitals.reindex(readings["subject_id"]).to_numpy().astype(object)
        if sites > 1
        else np.array([f"gateway-{number % GATEWAYS + 1}" for number in range(BEDS)], dtype=object)[bed_of_reading]
    )
    readings = shift(readings, "observed_at", "recorded_at").assign(
        device_id=np.array([f"monitor-{number + 1:02d}" for number in range(BEDS)], dtype=object)[bed_of_reading],
        source=gateway,
        message_id=pd.RangeIndex(len(readings)).astype(str),
    )
    if "recorded_at" not in readings:
        readings["recorded_at"] = readings["observed_at"]
    times = ("start", "end", "unit_admitted_at", "hospital_admitted_at")
    return readings, shift(stays, *times), shift(outcomes, "onset")


def predict_hourly(replay: Replay, registered: RegisteredModel, since: pd.Timestamp, until: pd.Timestamp) -> pd.DataFrame:
    """Predict for every patient at every full hour of their stay after ``since`` and up to ``until``.

    Returns:
        ``subject_id, index_time, probability, model_version, feature_service`` and the model's features.
    """
    stays = replay.stays[(replay.stays["end"] > since) & (replay.stays["start"] < until)]
    index = index_times(stays)
    index = index[(index["index_time"] > since) & (index["index_time"] <= until)]
    rows = replay.readings[replay.readings["subject_id"].isin(index["subject_id"])]
    rows = rows[(rows["recorded_at"] <= until).to_numpy()]
    usable = check(rows, declared=OWN_UNITS).accepted
    views = service_views(registered.feature_service)
    features = build_features(usable, index.reset_index(drop=True), views)
    risks = features[["subject_id", "index_time"]].assign(
        probability=registered.model.predict_proba(features)[:, 1],
        model_version=registered.version,
        feature_service=registered.feature_service,
    )
    return pd.concat([risks, features[list(registered.model.features)]], axis=1)
