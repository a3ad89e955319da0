"""Where the time of one answer and of one rescoring goes: processor time by step, inside one process."""

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from starlette.datastructures import State

from tests.benchmarks.api import TASK
from tests.benchmarks.freshness import SIGNALS
from tests.benchmarks.measure import Section
from vigil.features.signals import SIGNALS as UNITS
from vigil.pipelines.cohort_store import CohortStore
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.run import run
from vigil.pipelines.sources.simulated import SimulatedWard
from vigil.serving.api.front import Front
from vigil.serving.auth.local_tokens import create_local_token
from vigil.serving.composition import open_api, open_rescorer
from vigil.serving.observability.metrics import Metrics
from vigil.serving.records.journal import Journal
from vigil.serving.records.journal_snapshot import JournalSnapshot
from vigil.serving.records.registration import Registration
from vigil.serving.records.ward_state import WardState
from vigil.serving.scoring import risk_service
from vigil.serving.scoring.subject_state import SubjectStates
from vigil.serving.settings import Settings
from vigil.serving.stream import rescorer as rescoring
from vigil.serving.stream.alarm_updates import Updates
from vigil.serving.stream.online_store_writer import OnlineStoreWriter
from vigil.serving.stream.silence_follower import SilenceFollower

PATIENTS = 220
MONITORED = 1_000
BEATS = 5
ANSWERS = 2_000
MADE = 200

Steps = dict[str, tuple[Any, str]]  # title -> the object and the name of the function that is the step
_RESCORING: Steps = {
    "read what arrived, update the observations in memory": (SubjectStates, "advance"),
    "features": (SubjectStates, "features"),
    "terms of patients": (JournalSnapshot, "terms"),
    "bounds that stand": (JournalSnapshot, "standing_bounds"),
    "model and NEWS2": (rescoring, "assess_registered"),
    "alarms and events": (Updates, "update"),
    "prediction log": (rescoring.Rescorer, "_log_predictions"),
    "ward state": (WardState, "commit"),
    "signals that stop": (SilenceFollower, "step"),
    "hand over to the feature store": (OnlineStoreWriter, "put"),
}


def profile_section() -> Section:
    """Measure the steps of a rescoring, of a risk that is read, and of one that is made."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        run(SimulatedWard(patients=PATIENTS, patients_per_batch=PATIENTS), Home(home))
        rows = [*_profile_rescoring(home), *_profile_answers(home)]
    return Section(
        "Where the time goes",
        f"Processor time inside one process, without HTTP. *Rescoring*: {MONITORED:,} patients with a new reading each, "
        f"{BEATS} times, a row a patient. *Read*: a risk that stands, by the front of the API. *Made*: the risk of a patient "
        "who is not monitored, by the risk service. *The rest* is what no step above it holds.",
        ["work", "step", "ms", "share"],
        rows,
    )


def _profile_rescoring(home: Path) -> list[list[str]]:
    journal, settings = Journal(home), Settings(home=home, task=TASK)
    components = open_rescorer(settings, Metrics())
    subjects = [f"{number:024d}" for number in range(MONITORED)]
    journal.register([Registration(subject, f"W{number % 20}", age=70.0) for number, subject in enumerate(subjects)])

    def beat(number: int) -> None:
        journal.append(partial(_readings, subjects, number))
        while components.rescorer.step():
            pass

    for number in range(BEATS):  # so that every signal is known, and everything is compiled
        beat(number)
    with _measuring(_RESCORING) as spent:
        for number in range(BEATS, 2 * BEATS):
            journal.append(partial(_readings, subjects, number))
            with spent.whole():
                while components.rescorer.step():
                    pass
    return spent.rows("rescoring", MONITORED * BEATS)


def _readings(subjects: list[str], number: int) -> list[dict[str, object]]:
    signal, rng, now = list(SIGNALS)[number % len(SIGNALS)], np.random.default_rng(number), datetime.now(UTC)
    values = np.minimum(np.round(SIGNALS[signal] + rng.normal(0, 0.2, len(subjects)), 1), 100 if signal == "spo2" else np.inf)
    return [
        {
            "subject_id": subject,
            "signal": signal,
            "value": float(value),
            "unit": UNITS[signal].unit,
            "comparator": None,
            "observed_at": pd.Timestamp(now),
            "device_id": None,
            "source": "bench",
            "message_id": f"{number}-{subject}",
        }
        for subject, value in zip(subjects, values, strict=True)
    ]


def _profile_answers(home: Path) -> list[list[str]]:
    settings = Settings(home=home, task=TASK, requests_per_second=1_000_000)
    components = open_api(settings, Metrics())
    names = [f"read-{number}" for number in range(100)]
    keys = [components.pseudonyms.subject_key(name) for name in names]
    components.journal.register([Registration(key, "R", age=70.0) for key in keys])
    components.journal.append(partial(_readings, keys, 0))
    rescorer = open_rescorer(settings, Metrics()).rescorer
    while rescorer.step():
        pass
    token = create_local_token(home, subject="bench", scopes=None, wards=None, lifetime=pd.Timedelta(hours=1).to_pytimedelta())
    read: Steps = {
        "verify the token": (components.tokens, "verify"),
        "find that the risk stands, and its answer": (components.standing_answers, "find"),
        "count the request of the caller": (components.access, "is_within_rate"),
        "metrics": (components.metrics, "observe_request"),
    }
    state = State()
    state.components = components
    front = Front(_refuse, state)
    asyncio.run(_ask(front, names, token, len(names)))  # each answer is written once
    with _measuring(read) as spent, spent.whole():
        asyncio.run(_ask(front, names, token, ANSWERS))
    rows = spent.rows("read", ANSWERS)
    stays = CohortStore(home).read("stays")["subject_id"].tolist()[:MADE]
    service = components.risk_service
    service.by_subject(stays[:3])
    made: Steps = {
        "look for a risk that stands": (type(service.standing), "find"),
        "features from the feature store": (type(service.store), "online"),
        "model and NEWS2": (risk_service, "assess_registered"),
        "senders, terms and bounds in the journal": (risk_service.RiskService, "_with_present"),
        "prediction log, to the disk": (type(service.log), "append"),
    }
    with _measuring(made) as spent, spent.whole():
        for stay in stays:
            service.by_subject([stay])
    rows += spent.rows("made", len(stays))
    components.close()
    return rows


async def _refuse(*_: object) -> None:
    raise RuntimeError("a risk does not stand, so nothing is measured")


async def _ask(front: Front, names: list[str], token: str, number: int) -> None:
    headers = [(b"content-type", b"application/json"), (b"authorization", f"Bearer {token}".encode())]

    async def send(_: Any) -> None:
        return None

    for turn in range(number):
        body = f'{{"patient_id": "{names[turn % len(names)]}"}}'.encode()

        async def receive(body: bytes = body) -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        scope = {"type": "http", "method": "POST", "path": "/v1/risk", "query_string": b"", "headers": headers, "state": {}}
        await front(scope, receive, send)


class _Spent:
    """Processor time of steps, and of the whole."""

    def __init__(self, titles: list[str]) -> None:
        self.seconds: Counter[str] = Counter()
        self._titles, self._whole = titles, 0.0

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Count what happens inside as the whole."""
        began = time.process_time()
        yield
        self._whole += time.process_time() - began

    def rows(self, work: str, number: int) -> list[list[str]]:
        """Return a row a step, for one of ``number`` answers or patients."""
        steps = [(title, self.seconds[title]) for title in self._titles]
        steps.append(("the rest", self._whole - sum(seconds for _, seconds in steps)))
        rows = [[work, title, f"{1e3 * seconds / number:.3f}", f"{seconds / self._whole:.0%}"] for title, seconds in steps]
        return [*rows, [f"**{work}**", "", f"**{1e3 * self._whole / number:.3f}**", ""]]


@contextmanager
def _measuring(steps: Steps) -> Iterator[_Spent]:
    """Measure functions while they are called; none of them calls another one of them."""
    spent = _Spent(list(steps))

    def timed(title: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            began = time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                spent.seconds[title] += time.process_time() - began

        return call

    with ExitStack() as stack:
        for title, (owner, name) in steps.items():
            stack.enter_context(patch.object(owner, name, timed(title, getattr(owner, name))))
        yield spent
