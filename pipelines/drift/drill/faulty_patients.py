"""Faults that no reading shows: other patients, another version, other frequencies of events, other meanings of signs."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import pandas as pd

from features.errors import VigilError
from pipelines.drift.drill.replay import Replay

_DAY: Final = pd.Timedelta(days=1)
_BEFORE_END: Final = pd.Timedelta(hours=2)  # of a stay: when an event is, where the cohort had none


class FaultError(VigilError):
    """No such fault, or the replay holds nothing that it could hit."""


def _case_mix(replay: Replay, since: pd.Timestamp, strength: float, rng: np.random.Generator) -> Replay:
    """From then on beds are taken by those of the cohort who are older and breathe worse, whenever they really came.

    Six to ten in ten of the patients change. What was predicted of them is gone: predict anew.
    """
    stays = replay.stays
    breathing = replay.readings[replay.readings["signal"] == "respiratory_rate"].groupby("subject_id", observed=True)["value"]
    burden = stays["age"].rank(pct=True).fillna(0.5).to_numpy() + (
        breathing.median().reindex(stays["subject_id"]).rank(pct=True).fillna(0.5).to_numpy()
    )
    there = ((stays["start"] < since + _DAY) & (stays["end"] > since)).to_numpy()
    leave = there & (rng.random(len(stays)) < 0.6 + 0.4 * strength)
    others = np.flatnonzero(~there & stays["subject_id"].isin(breathing.groups).to_numpy())
    come = others[np.argsort(-burden[others], kind="stable")][: int(leave.sum())]
    if len(come) < int(leave.sum()):
        raise FaultError(
            f"fault case_mix: {len(come)} patients could come instead of {int(leave.sum())}; expected as many; "
            "replay more of the cohort"
        )
    # By whole days, so that nights stay nights.
    days = pd.Series(pd.Timedelta(0), index=stays.index)
    middle = stays["start"] + (stays["end"] - stays["start"]) / 2
    days.iloc[come] = (since + _DAY / 2 - middle.iloc[come]).dt.round("D")
    moved = pd.Series(days.to_numpy(), index=stays["subject_id"])
    gone, arrived = set(stays.loc[leave, "subject_id"]), set(stays["subject_id"].iloc[come])

    def shifted(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
        by = pd.Series(moved.reindex(table["subject_id"]).to_numpy(), index=table.index)
        return table.assign(**{column: table[column] + by for column in columns if column in table})

    readings = replay.readings
    readings = readings[~(readings["subject_id"].isin(gone) & (readings["recorded_at"] >= since)).to_numpy()]
    readings = shifted(readings, "observed_at", "recorded_at")
    readings = readings[~(readings["subject_id"].isin(arrived) & (readings["observed_at"] < since)).to_numpy()]
    order = np.argsort(readings["recorded_at"].to_numpy("datetime64[us]"), kind="stable")
    return Replay(
        readings.iloc[order].reset_index(drop=True),
        shifted(stays[~leave], "start", "end", "unit_admitted_at", "hospital_admitted_at"),
        shifted(replay.outcomes[~replay.outcomes["subject_id"].isin(gone).to_numpy()], "onset"),
    )


def _other_version(replay: Replay, since: pd.Timestamp, strength: float, rng: np.random.Generator) -> Replay:
    """Some of the servers go on with what was served before: one in twenty of the answers, up to all."""
    log = _log_of(replay, "version_mismatch")
    hit = (log["index_time"] >= since).to_numpy() & (rng.random(len(log)) < 0.05 + 0.95 * strength)
    column = rng.choice(["model_version", "feature_service"])
    return replace(replay, log=log.assign(**{column: log[column].astype(object).mask(hit, f"not {log[column].iloc[0]}")}))


def _more_events(replay: Replay, since: pd.Timestamp, strength: float, rng: np.random.Generator) -> Replay:
    """Of those who came since without an event, 70 to 90 in a hundred are left out: the odds of an event grow 3 to 10 times.

    All others are as ever, and so are their signs. Less shows in no month of one ward: where risks tell patients apart well,
    another frequency changes only what becomes of the few in between.
    """
    stays = replay.stays
    event = stays["subject_id"].isin(replay.outcomes["subject_id"])
    gone = stays[~event & (stays["start"] >= since) & (rng.random(len(stays)) < 0.7 + 0.2 * strength)]["subject_id"]
    log = _log_of(replay, "prevalence")
    return replace(
        replay,
        readings=replay.readings[~replay.readings["subject_id"].isin(gone)].reset_index(drop=True),
        stays=stays[~stays["subject_id"].isin(gone)].reset_index(drop=True),
        log=log[~log["subject_id"].isin(gone)].reset_index(drop=True),
    )


def _other_concept(replay: Replay, since: pd.Timestamp, strength: float, rng: np.random.Generator) -> Replay:
    """As many events, but half of them, up to all, in others than before, whose signs did not foretell them."""
    _log_of(replay, "concept")
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


def _log_of(replay: Replay, name: str) -> pd.DataFrame:
    if replay.log is None or replay.log.empty:
        raise FaultError(f"fault {name}: shows in predictions, and there are none; expected a replay with a log")
    return replay.log


OF_PATIENTS: Final[Mapping[str, Callable[[Replay, pd.Timestamp, float, np.random.Generator], Replay]]] = {
    "case_mix": _case_mix,
    "version_mismatch": _other_version,
    "prevalence": _more_events,
    "concept": _other_concept,
}
