"""Drills: put a fault into a replay, and write it as files for ``vigil drift --replay``."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from vigil.features.pseudonyms import open_pseudonyms
from vigil.models.monitoring.assessment import DAY, ObservedDay
from vigil.models.monitoring.received import check_received
from vigil.models.registry import RegisteredModel, Registry
from vigil.models.tasks import RiskTask
from vigil.pipelines.drift.drill.injection import Hit, inject
from vigil.pipelines.drift.drill.replay import Replay, build_replay, predict_hourly
from vigil.pipelines.drift.inputs import label_predictions, write_replay
from vigil.pipelines.home import Home
from vigil.pipelines.progress import timed_step
from vigil.pipelines.sources import Source

FOLDER: Final = "replays"  # under HOME
NEEDS_OUTCOMES: Final = ("prevalence", "concept")  # they show once outcomes are known, so weeks are replayed
CLEAN: Final = "none"


def simulate_fault(
    home: Home, name: str, source: Source, *, strength: float, seed: int, where: tuple[str, ...], to: Path
) -> tuple[ObservedDay, Hit | None]:
    """Replay a day of a source with a fault in it, or weeks where the fault shows in outcomes only.

    The day begins in the middle third of the source's time, at an hour that the seed chooses.

    Args:
        home: its champion predicts.
        name: of a fault, or ``none``: no fault is put in.
        source: of the patients.
        strength: 0 (hardly) to 1 (grossly).
        seed: of the day, the location and all draws.
        where: gateway or devices; default: drawn.
        to: folder to write.

    Raises:
        FaultError: there is no such fault, or nothing that it could hit.
        NoModelError: there is no champion.
    """
    champion = Registry.open_existing(home.path).load(home.cohort.facts.task)
    with timed_step("replay"):
        replay = build_replay(source)
        since = _draw_begin(replay, seed)
    until = replay.stays["start"].max() if name in NEEDS_OUTCOMES else since + DAY
    with timed_step("fault and predictions"):
        recent, hit = inject_and_predict(
            replay, name, champion, since=since, until=until, strength=strength, seed=seed, where=where, task=home.cohort.task
        )
    facts: dict[str, Any] = {
        "fault": None if hit is None else hit.fault, "signal": hit and hit.signal, "where": list(hit.where) if hit else [],
        "since": since.isoformat(), "strength": strength, "seed": seed, "source": source.name, "simulated": source.simulated,
    }  # fmt: skip
    recent = replace(recent, facts=facts)
    write_replay(to, _pseudonymise(home, recent))
    return recent, hit


def inject_and_predict(
    replay: Replay,
    name: str,
    champion: RegisteredModel,
    *,
    since: pd.Timestamp,
    until: pd.Timestamp,
    strength: float,
    seed: int,
    where: tuple[str, ...] = (),
    task: RiskTask,
) -> tuple[ObservedDay, Hit | None]:
    """Put a fault into a replay from ``since`` on, and return the readings, predictions and outcomes known at ``until``."""
    hit = None
    over_weeks = name in NEEDS_OUTCOMES
    begin = since if over_weeks else until - DAY
    if name in (*NEEDS_OUTCOMES, "version_mismatch"):  # these faults change predictions, so predictions come first
        replay = replace(replay, log=predict_hourly(replay, champion, begin, until))
    if name != CLEAN:
        replay, hit = inject(replay, name, since=since, strength=strength, seed=seed, where=where)
    log = predict_hourly(replay, champion, begin, until) if replay.log is None else replay.log
    recorded = replay.readings["recorded_at"]
    rows = check_received(replay.readings[((recorded > until - 2 * DAY) & (recorded <= until)).to_numpy()])
    ended = replay.stays[(replay.stays["end"] <= until).to_numpy()] if over_weeks else replay.stays.iloc[:0]
    log_of_ended = log[log["subject_id"].isin(ended["subject_id"])]
    judged = label_predictions(log_of_ended, ended, replay.outcomes, task)
    last_day = log[(log["index_time"] > until - DAY).to_numpy()].reset_index(drop=True)
    return ObservedDay(until, rows, last_day, ends=False, judged=judged, facts={}), hit


def _pseudonymise(home: Home, recent: ObservedDay) -> ObservedDay:
    """Replace patient identifiers by pseudonyms, also those of a published cohort."""
    pseudonyms = open_pseudonyms(home.path)
    tables = [
        table.assign(subject_id=pseudonyms.subject_keys(table["subject_id"].astype(str)).astype(str))
        for table in (recent.rows, recent.log, recent.judged)
    ]
    return replace(recent, rows=tables[0], log=tables[1], judged=tables[2])


def _draw_begin(replay: Replay, seed: int) -> pd.Timestamp:
    """Draw an hour in the middle third of the time that the replay covers."""
    start, end = replay.stays["start"].min(), replay.stays["start"].max()
    third = int((end - start) / pd.Timedelta(hours=1)) // 3
    return pd.Timestamp(start).ceil("h") + pd.Timedelta(hours=third + int(np.random.default_rng(seed).integers(third + 1)))
