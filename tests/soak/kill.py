"""Kill the server again and again while gateways send to it, and check that every promise holds."""

import contextlib
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.soak import invariants
from tests.soak.gateway import WARDS, Follower, Gateway
from tests.soak.home import TASK, token_for
from vigil.pipelines.home import Home
from vigil.pipelines.operations.server import ServerError, start_server, wait_for
from vigil.serving.records import ward_settings
from vigil.serving.records.ward_state import SCHEMA, WardState
from vigil.serving.records.ward_tables import ALARMS

GATEWAYS = 3
THRESHOLD = 0.3  # between the risks that the small ward's model gives to well and to sick patients
# When the supervisor is killed alone, its workers live on, and they still run when the next server starts.
VICTIMS = ("everything", "rescorer", "vigil", "supervisor")
_START_SECONDS = 8.0  # roughly the time of a start; some kills fall within it
_WORK_SECONDS = 3.0
_BACK_SECONDS = 120.0


@dataclass
class Report:
    """Counts of what was done, and the faults that were found.

    Attributes:
        kills: by victim.
        during_start: kills during a start.
        readings: sent.
        resent: requests sent again.
        alarms: alarm records at the end.
        back: seconds until a process that was killed alone worked again.
        faults: descriptions.
    """

    kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys(VICTIMS, 0))
    during_start: int = 0
    readings: int = 0
    resent: int = 0
    alarms: int = 0
    back: dict[str, list[float]] = field(default_factory=lambda: {"rescorer": [], "vigil": []})
    faults: list[str] = field(default_factory=list)


class Machine:
    """The machine on which the server runs."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.url = "http://127.0.0.1:9"  # no server yet
        self._orphans: list[psutil.Process] = []  # workers of killed supervisors
        self.start()

    def start(self) -> None:
        self.url, self.supervisor = start_server(Home(self.home), TASK, "tests.soak.quick:Vigil")
        self.since = time.time()

    def kill(self, victim: str) -> bool:
        """Kill one process or all, and return whether the victim was running."""
        if victim in {"everything", "supervisor"}:
            self.supervisor.send_signal(signal.SIGSTOP)  # so that it cannot start another worker in the meantime
            workers = self._workers()
            self.supervisor.kill()  # first, so that it does not start new workers
            self.supervisor.wait()
            if victim == "supervisor":
                self._orphans += workers
            else:
                self.kill_orphans(workers)
            return True
        processes = [process for process in self._workers() if _service_of(process) == victim]
        _kill(processes)
        self.since = time.time()
        return bool(processes)

    def kill_orphans(self, workers: list[psutil.Process] | None = None) -> None:
        """Kill the workers of killed supervisors, and those given."""
        _kill([*self._orphans, *(workers or [])])
        self._orphans = []

    def wait_until_working(self) -> float:
        """Wait until the server answers and updates risks, and return the seconds since the start or the last kill."""
        wait_for(f"{self.url}/livez", self.supervisor)
        ward_state, deadline = WardState(self.home), time.time() + _BACK_SECONDS
        while time.time() < deadline:
            _, alive = ward_state.progress()
            if alive is not None and alive.timestamp() > self.since:
                return time.time() - self.since
            time.sleep(0.1)
        raise ServerError("the rescorer does not work again")

    def _workers(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.supervisor.pid).children(recursive=True)
        return []


def kill_often(home: Path, kills: int, seed: int, victims: tuple[str, ...] = VICTIMS) -> Report:
    """Kill at random times, then let everything be sent and rescored, and check the home.

    Args:
        home: a home that has received nothing over its API.
        kills: how often.
        seed: of everything random.
        victims: killed in this order first, then at random.
    """
    (home / ward_settings.FILE).write_text(f"[default]\nthreshold = {THRESHOLD}\nalarms_per_patient_day = 100\n")
    token, rng, report = token_for(home), random.Random(seed), Report()
    machine = Machine(home)
    gateways = [Gateway(number, lambda: machine.url, token, seed) for number in range(GATEWAYS)]
    followers = [Follower(ward, lambda: machine.url, token) for ward in WARDS]
    try:
        machine.wait_until_working()
        for worker in (*gateways, *followers):
            worker.start()
        for number in range(kills):
            victim = victims[number] if number < len(victims) else rng.choice(victims)
            _kill_once(machine, victim, rng, report)
            report.faults += invariants.journal_faults(home, gateways) + invariants.alarm_faults(home)
            if report.faults:
                break
        machine.wait_until_working()
        machine.kill_orphans()
        for gateway in gateways:
            gateway.stop()
        _wait_until_drained(home)
        time.sleep(1)  # so that followers receive the last events
        for follower in followers:
            follower.stop()
    finally:
        machine.kill("everything")
        machine.kill_orphans()
        for worker in (*gateways, *followers):
            worker.abandon()
    report.readings, report.resent = sum(len(gateway.sent) for gateway in gateways), sum(gateway.resent for gateway in gateways)
    report.alarms = len(invariants.rows(home, SCHEMA, ALARMS)[0])
    report.faults += [fault for gateway in gateways for fault in gateway.faults]
    report.faults += ["never acknowledged" for gateway in gateways if gateway.sent.keys() - gateway.acknowledged]
    report.faults += (
        invariants.file_faults(home)
        + invariants.journal_faults(home, gateways)
        + invariants.alarm_faults(home)
        + invariants.risk_faults(home)
    )
    for ward, follower in zip(WARDS, followers, strict=True):
        report.faults += invariants.follower_faults(home, ward, follower.seen)
    return report


def _kill_once(machine: Machine, victim: str, rng: random.Random, report: Report) -> None:
    if rng.random() < 1 / 3:
        time.sleep(rng.uniform(0, _START_SECONDS))
        report.during_start += 1
    else:
        machine.wait_until_working()
        machine.kill_orphans()
        time.sleep(rng.uniform(0, _WORK_SECONDS))
    if not machine.kill(victim):  # it has not started yet
        victim = "everything"
        machine.kill(victim)
    report.kills[victim] += 1
    if victim in {"everything", "supervisor"}:
        machine.start()
    elif rng.random() < 0.5:
        report.back[victim].append(machine.wait_until_working())


def _wait_until_drained(home: Path) -> None:
    deadline = time.time() + _BACK_SECONDS
    while not invariants.is_drained(home):
        if time.time() > deadline:
            raise ServerError("risks are behind the journal")
        time.sleep(0.1)


def _service_of(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error, ValueError, IndexError):
        command = process.cmdline()
        return command[command.index("--service-name") + 1]
    return ""


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()  # psutil checks that the process id was not reused
