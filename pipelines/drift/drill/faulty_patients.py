"""Drills of faults that no reading shows: other patients, another version, other frequencies of events, other meanings."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd

from vigil.features.errors import VigilError
from vigil.pipelines.drift.drill.replay import Replay

_DAY: Final = pd.Timedelta(days=1)
_BEFORE_END: Final = pd.Timedelta(hours=2)  # of a stay: the time of an event that the cohort does not have


class FaultError(VigilError):
    """There is no such fault, or the replay holds nothing that it could hit."""


def _change_case_mix(replay: Replay, since: pd.Timestamp, strength: float, rng: np.random.Generator) -> Replay:
    """Replace 60 to 100 % of the patients by older patients with faster breathing, from any time of the cohort.

    The result has no log: predict again.
    """
    stays = replay.stays
    breathing = replay.readings[replay.readings["signal"] == "respiratory_rate"].groupby("subject_id", observed=True)["value"]
    burden = stays["age"].rank(pct=True).fillna(0.5).to_numpy() + (
        breathing.median().reindex(stays["subject_id"]).rank(pct=True).fillna(0.5).to_numpy()
    )
    present = ((stays["start"] < since + _DAY) & (stays["end"] > since)).to_numpy()
    leave = present & (rng.random(len(stays)) < 0.6 + 0.4 * strength)
    others = np.flatnonzero(~present & stays["subject_id"].isin(breathing.groups).to_numpy())
    newcomers = others[np.argsort(-burden[others], kind="stable")][: int(leave.sum())]
    if len(newcomers) < int(leave.sum()):
        raise FaultError(
            f"fault case_mix: {len(newcomers)} patients can replace {int(leave.sum())}; expected as many; "
            "replay more of the cohort"
        )
    # Shift by whole days, so that nights stay nights.
    days = pd.Series(pd.Timedelta(0), index=stays.index)
    middle = stays["start"] + (stays["end"] - stays["start"]) / 2
    days.iloc[newcomers] = (since + _DAY / 2 - middle.iloc[newcomers]).dt.round("D")
    moved = pd.Series(days.to_numpy(), index=stays["subject_id"])
    gone, arrived = set(stays.loc[leave, "subject_id"]), set(stays["subject_id"].iloc[newcomers])

    def shift(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
        by = pd.Series(moved.reindex(table["subject_id"]).to_numpy(), index=table.index)
        return table.assign(**{column: table[column] + by for column in columns if column in table})

    readings = replay.readings
    readings = readings[~(readings["subject_id"].isin(gone) & (readings["recorded_at"] >= since)).to_numpy()]
    readings = shift(readings, "observed_at", "recorded_at")
    readings = readings[~(readings["subject_id"].isin(arrived) & (readings["observed_at"] < since)).to_numpy()]
    order = np.argsort(readings["recorded_at"].to_numpy("datetime64[us]"), kind="stable")
    return Replay(
        readings.iloc[order].reset_index(drop=True),
        shift(stays[~leave], "start", "end", "unit_admitted_at", "hospital_admitted_at"),
        shift(replay.outcomes[~replay.outcomes["subject_id"].isin(gone).to_numpy()], "onset"),
    )


def _change_version(replay: Replay, since: pd.Timestamp, strength: float, rng: np.random.Generator) -> Replay:
    """Let 5 to 100 % of the answers come from another version, as if some servers still ran it."""
    log = _require_log(replay, "version_mismatch")
    hit = (log["index_time"] >= since).to_numpy() & (rng.random(len(log)) < 0.05 + 0.95 * strength)
    column = rng.choice(["model_version", "feature_service"])
    return replace(replay, log=log.assign(**{column: log[column].astype(object).mask(hit, f"not {log[column].iloc[0]}")}))


def _raise_prevalence(replay: Replay, since: pd.Timestamp, strength: float, rng: np.random.Generator) -> Replay:
    """Leave out 70 to 90 % of the new patients without an event, so that the odds of an event grow 3 to 10 times.

    All other patients and their signs stay as they are. A smaller change shows in no month of one ward: where risks separate
    patients well, another frequency changes the outcome of only a few in between.
    """
    stays = replay.stays
    event = stays["subject_id"].isin(replay.outcomes["subject_id"])
    gone = stays[~event & (stays["start"] >= since) & (rng.random(len(stays)) < 0.7 + 0.2 * strength)]["subject_id"]
    log = _require_log(replay, "prevalence")
    return replace(
        replay,
        readings=replay.readings[~replay.readings["subject_id"].isin(gone)].reset_index(drop=True),
        stays=stays[~stays["subject_id"].isin(gone)].reset_index(drop=True),
        log=log[~log["subject_id"].isin(gone)].reset_index(drop=True),
    )


def _move_events(replay: Replay, since: pd.Timestamp, strength: float, rng: np.random.Generator) -> Replay:
    """Move 50 to 100 % of the events to other patients, with signs that did not predict them."""
    _require_log(replay, "concept")
    stays = replay.stays[(replay.stays["start"] >= since).to_numpy()]
    outcomes = replay.outcomes
    mine = outcomes["subject_id"].isin(stays["subject_id"]).to_numpy()
    moved = mine & (rng.random(len(outcomes)) < 0.5 + 0.5 * strength)
    free = stays[~stays["subject_id"].isin(outcomes["subject_id"])]
    taken = free.iloc[rng.choice(len(free), min(int(moved.sum()), len(free)), replace=False)]
    onset = (taken["end"] - _BEFORE_END).clip(lower=taken["start"])
    others = outcomes[moved].iloc[: len(taken)].assign(subject_id=taken["subject_id"].to_numpy(), onset=onset.to_numpy())
    others["onset"] = pd.to_datetime(others["onset"], utc=True).astype(outcomes["onset"].dtype)
    return replace(replay, outcomes=pd.concat([outcomes[~moved], others], ignore_index=True))


def _require_log(replay: Replay, name: str) -> pd.DataFrame:
    """Return the log of a replay, which this fault needs."""
    if replay.log is None or replay.log.empty:
        raise FaultError(f"fault {name}: shows in predictions, and there are none; expected a replay with a log")
    return replay.log


PATIENT_FAULTS: Final[Mapping[str, Callable[[Replay, pd.Timestamp, float, np.random.Generator], Replay]]] = {
    "case_mix": _change_case_mix,
    "version_mismatch": _change_version,
    "prevalence": _raise_prevalence,
    "concept": _move_events,
}
