"""Put a fault into a replay and keep it as files that ``vigil drift --replay`` judges: a drill."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from features.pseudonyms import open_pseudonyms
from models.monitoring.received import checked
from models.registry import RegisteredModel, Registry
from models.tasks import TASKS
from pipelines.cohort_store import CohortStore
from pipelines.drift.drill.injection import Hit, inject
from pipelines.drift.drill.replay import Replay, predictions, replay_of
from pipelines.drift.inputs import DAY, Recent, known, write_replay
from pipelines.progress import working
from pipelines.sources import Source

FOLDER: Final = "replays"  # under HOME
JUDGED_LATER: Final = ("prevalence", "concept")  # they show once outcomes are known, so weeks are replayed
CLEAN: Final = "none"


def simulate_fault(
    home: Path, name: str, source: Source, *, strength: float, seed: int, where: tuple[str, ...], to: Path
) -> tuple[Recent, Hit | None]:
    """Replay a day of a source with a fault in it, or weeks where the fault shows in outcomes only.

    The day begins in the middle of the source's time, at an hour that the seed chooses.

    Args:
        home: whose champion predicts.
        name: of a fault, or ``none``: nothing is put in.
        source: whose patients.
        strength: 0 (hardly) to 1 (grossly).
        seed: of day, place and draws.
        where: gateway or devices; default: drawn.
        to: folder to write.

    Raises:
        FaultError: no such fault, or nothing that it could hit.
        NoModelError: there is no champion.
    """
    facts = CohortStore(home).facts
    champion = Registry.existing(home).load(facts.task)
    with working("replay"):
        replay = replay_of(source)
        since = _middle(replay, seed)
    until = replay.stays["start"].max() if name in JUDGED_LATER else since + DAY
    with working("fault and predictions"):
        recent, hit = faulty(replay, name, champion, since=since, until=until, strength=strength, seed=seed, where=where)
    about: dict[str, Any] = {
        "fault": None if hit is None else hit.fault, "signal": hit and hit.signal, "where": list(hit.where) if hit else [],
        "since": since.isoformat(), "strength": strength, "seed": seed, "source": source.name, "simulated": source.simulated,
    }  # fmt: skip
    recent = replace(recent, about=about)
    write_replay(to, _by_pseudonym(home, recent))
    return recent, hit


def faulty(
    replay: Replay,
    name: str,
    champion: RegisteredModel,
    *,
    since: pd.Timestamp,
    until: pd.Timestamp,
    strength: float,
    seed: int,
    where: tuple[str, ...] = (),
) -> tuple[Recent, Hit | None]:
    """A replay with a fault from a time on, as it looks at another: what came, what was predicted, what is known by then."""
    hit = None
    later = name in JUDGED_LATER
    begin = since if later else until - DAY
    if name in (*JUDGED_LATER, "version_mismatch"):  # they are put into predictions, which have to be there first
        replay = replace(replay, log=predictions(replay, champion, begin, until))
    if name != CLEAN:
        replay, hit = inject(replay, name, since=since, strength=strength, seed=seed, where=where)
    log = predictions(replay, champion, begin, until) if replay.log is None else replay.log
    recorded = replay.readings["recorded_at"]
    rows = checked(replay.readings[((recorded > until - 2 * DAY) & (recorded <= until)).to_numpy()])
    told = replay.stays[(replay.stays["end"] <= until).to_numpy()] if later else replay.stays.iloc[:0]
    of_them = log[log["subject_id"].isin(told["subject_id"])]
    judged = known(of_them, told, replay.outcomes, TASKS[str(champion.model.facts_["task"])])
    last_day = log[(log["index_time"] > until - DAY).to_numpy()].reset_index(drop=True)
    return Recent(until, rows, last_day, ends=False, judged=judged, about={}), hit


def _by_pseudonym(home: Path, recent: Recent) -> Recent:
    """Nobody is named in files, not even of a cohort that others published."""
    pseudonyms = open_pseudonyms(home)
    tables = [
        table.assign(subject_id=pseudonyms.of_each(table["subject_id"].astype(str)).astype(str))
        for table in (recent.rows, recent.log, recent.judged)
    ]
    return replace(recent, rows=tables[0], log=tables[1], judged=tables[2])


def _middle(replay: Replay, seed: int) -> pd.Timestamp:
    """An hour in the middle third of the time that the replay covers."""
    start, end = replay.stays["start"].min(), replay.stays["start"].max()
    third = int((end - start) / pd.Timedelta(hours=1)) // 3
    return pd.Timestamp(start).ceil("h") + pd.Timedelta(hours=third + int(np.random.default_rng(seed).integers(third + 1)))
