"""Kill the server again and again while FHIR clients that others wrote send to it: no Observation is lost, none is doubled."""

import json
import random
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from tests.soak.home import token_for
from tests.soak.invariants import file_faults
from tests.soak.kill import Machine
from tests.system.peers.environments import command, own_environment
from vigil.features.kernel.plan import UNBOUNDED
from vigil.features.pseudonyms import open_pseudonyms
from vigil.pipelines.operations.server import wait_for
from vigil.serving.records.journal import Journal
from vigil.serving.records.timestamps import microsecond

SENDERS = {"fhirpy": ("fhirpy", "fhirpy_sender.py"), "fhir-kit-client": ("node", "kit_sender.mjs")}
_SYSTEM = "urn:soak:patients"
_WORK_SECONDS = 2.0
_START_SECONDS = 6.0
_FINISH_SECONDS = 120.0

Reading = tuple[int, float]  # observed at, microseconds; value


@dataclass
class Report:
    """What was done, and the faults that were found.

    Attributes:
        kills: by victim.
        acknowledged: Observations by client.
        faults: descriptions.
    """

    kills: Counter[str] = field(default_factory=Counter)
    acknowledged: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


class _Sender:
    """A process of a client, and what the server has acknowledged to it."""

    def __init__(self, name: str, folder: Path, token: str) -> None:
        self.patient = name
        self.acknowledged: list[Reading] = []
        self._process = subprocess.Popen(
            [*command(*SENDERS[name]), str(folder), name],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=own_environment(TOKEN=token),
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            self.acknowledged.append((microsecond(pd.Timestamp(said["at"])), said["value"]))

    def finish(self) -> list[str]:
        """Wait until the client has finished its step; return what went wrong."""
        try:
            status = self._process.wait(timeout=_FINISH_SECONDS)
        except subprocess.TimeoutExpired:
            self.abandon()
            return [f"{self.patient}: a step was never acknowledged"]
        self._thread.join()
        assert self._process.stderr is not None
        return [f"{self.patient}: {self._process.stderr.read()[-500:]}"] if status else []

    def abandon(self) -> None:
        self._process.kill()
        self._process.wait()


def kill_while_fhir_clients_send(home: Path, kills: int, seed: int) -> Report:
    """Kill at random times while clients send, let them finish, and check the journal.

    Args:
        home: a home that has received nothing over its API.
        kills: how often; one in five kills everything, the others the process that answers.
        seed: of everything random.

    Raises:
        PeerError: a client cannot be had here.
    """
    (home / "fhir.toml").write_text(f'patient_system = "{_SYSTEM}"\n')
    folder, rng, report = home / "soak", random.Random(seed), Report()
    folder.mkdir()
    for peer in SENDERS.values():
        command(*peer)  # makes the environment
    machine = Machine(home)
    (folder / "url").write_text(machine.url)
    senders: list[_Sender] = []
    try:
        wait_for(f"{machine.url}/livez", machine.supervisor)
        senders += [_Sender(name, folder, token_for(home)) for name in SENDERS]
        for number in range(kills):
            _kill_once(machine, "everything" if number % 5 == 0 else "vigil", rng, report)
            (folder / "url").write_text(machine.url)
            report.faults += [fault for sender in senders for fault in _faults(home, sender)]
            if report.faults:
                break
        wait_for(f"{machine.url}/livez", machine.supervisor)
        (folder / "stop").touch()
        report.faults += [fault for sender in senders for fault in sender.finish()]
    finally:
        machine.kill("everything")
        machine.kill_orphans()
        for sender in senders:
            sender.abandon()
    report.acknowledged = {sender.patient: len(sender.acknowledged) for sender in senders}
    report.faults += [fault for sender in senders for fault in _faults(home, sender, is_finished=True)]
    report.faults += file_faults(home)
    return report


def _kill_once(machine: Machine, victim: str, rng: random.Random, report: Report) -> None:
    if rng.random() < 2 / 3:
        wait_for(f"{machine.url}/livez", machine.supervisor)
        time.sleep(rng.uniform(0, _WORK_SECONDS))
    else:
        time.sleep(rng.uniform(0, _START_SECONDS))
    if not machine.kill(victim):  # it has not started yet
        victim = "everything"
        machine.kill(victim)
    report.kills[victim] += 1
    if victim == "everything":
        machine.start()


def _faults(home: Path, sender: _Sender, *, is_finished: bool = False) -> list[str]:
    """Return acknowledged Observations that the journal does not hold once, and at the end those that nobody acknowledged."""
    acknowledged = list(sender.acknowledged)  # before the journal is read
    with Journal(home).snapshot() as snapshot:
        rows = snapshot.observations(0, UNBOUNDED, open_pseudonyms(home).subject_key(sender.patient))
    times = rows["observed_at"].map(microsecond)
    stored = Counter(zip(times.tolist(), rows["value"].tolist(), strict=True))
    lost = set(acknowledged) - stored.keys()
    twice = [reading for reading, count in Counter(time for time, _ in stored.elements()).items() if count > 1]
    faults = [f"{sender.patient}: {len(lost)} acknowledged Observations lost"] * bool(lost)
    faults += [f"{sender.patient}: {len(twice)} Observations twice"] * bool(twice)
    if is_finished and stored.keys() != set(acknowledged):
        faults.append(f"{sender.patient}: {len(stored.keys() - set(acknowledged))} readings that nobody acknowledged")
    return faults
