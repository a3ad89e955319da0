"""Kill the server, again and again, while gateways send to it; nothing that was promised may break."""

import contextlib
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from pipelines.operations.server import ServerError, start_server, wait_for
from serving.records import ward_settings
from serving.records.ward_state import ALARMS, FILE, Board
from tests.soak import kept
from tests.soak.gateway import WARDS, Follower, Gateway
from tests.soak.home import TASK, token_for

GATEWAYS = 3
THRESHOLD = 0.3  # between what the small ward's model says of the well and of the sick
# Supervisor: whoever it started lives on, and is still there when the next server starts.
VICTIMS = ("everything", "rescorer", "vigil", "supervisor")
_START_SECONDS = 8.0  # about what a start takes: within it some are killed
_WORK_SECONDS = 3.0
_BACK_SECONDS = 120.0


@dataclass
class Report:
    """What was done, and what was wrong; ``back``: seconds until a process that was killed alone did its work again."""

    kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys(VICTIMS, 0))
    during_start: int = 0
    readings: int = 0
    resent: int = 0
    alarms: int = 0
    back: dict[str, list[float]] = field(default_factory=lambda: {"rescorer": [], "vigil": []})
    faults: list[str] = field(default_factory=list)


class Machine:
    """The one on which the server runs."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.url = "http://127.0.0.1:9"  # nobody, yet
        self._left: list[psutil.Process] = []  # by supervisors that were killed
        self.start()

    def start(self) -> None:
        self.url, self.supervisor = start_server(self.home, TASK, "tests.soak.quick:Vigil")
        self.since = time.time()

    def kill(self, victim: str) -> bool:
        """Kill one or all; whether there was anybody to kill."""
        if victim in {"everything", "supervisor"}:
            self.supervisor.send_signal(signal.SIGSTOP)  # or it might start one whom we do not know of
            workers = self._workers()
            self.supervisor.kill()  # first, or it would start others in their place
            self.supervisor.wait()
            if victim == "supervisor":
                self._left += workers
            else:
                self.bury(workers)
            return True
        found = [process for process in self._workers() if _service_of(process) == victim]
        _kill(found)
        self.since = time.time()
        return bool(found)

    def bury(self, workers: list[psutil.Process] | None = None) -> None:
        """Kill whom a supervisor left behind."""
        _kill([*self._left, *(workers or [])])
        self._left = []

    def at_work(self) -> float:
        """Wait until the server answers and risks are renewed; the seconds since it was started, or somebody killed."""
        wait_for(f"{self.url}/livez", self.supervisor)
        board, deadline = Board(self.home), time.time() + _BACK_SECONDS
        while time.time() < deadline:
            _, alive = board.progress()
            if alive is not None and alive.timestamp() > self.since:
                return time.time() - self.since
            time.sleep(0.1)
        raise ServerError("the rescorer did not come back")

    def _workers(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.supervisor.pid).children(recursive=True)
        return []


def kill_often(home: Path, kills: int, seed: int, victims: tuple[str, ...] = VICTIMS) -> Report:
    """Kill so often, at random moments, then let everything be sent and rescored, and look at what is there.

    Args:
        home: nothing came over its API yet.
        victims: the first is killed first, and so on; then it is random.
    """
    (home / ward_settings.FILE).write_text(f"[default]\nthreshold = {THRESHOLD}\nalarms_per_patient_day = 100\n")
    token, rng, report = token_for(home), random.Random(seed), Report()
    machine = Machine(home)
    gateways = [Gateway(number, lambda: machine.url, token, seed) for number in range(GATEWAYS)]
    followers = [Follower(ward, lambda: machine.url, token) for ward in WARDS]
    try:
        machine.at_work()
        for party in (*gateways, *followers):
            party.start()
        for number in range(kills):
            victim = victims[number] if number < len(victims) else rng.choice(victims)
            _kill_once(machine, victim, rng, report)
            report.faults += kept.journal_faults(home, gateways) + kept.alarm_faults(home)
            if report.faults:
                break
        machine.at_work()
        machine.bury()
        for gateway in gateways:
            gateway.stop()
        _wait_until_drained(home)
        time.sleep(1)  # for followers
        for follower in followers:
            follower.stop()
    finally:
        machine.kill("everything")
        machine.bury()
        for party in (*gateways, *followers):
            party.abandon()
    report.readings, report.resent = sum(len(gateway.sent) for gateway in gateways), sum(gateway.resent for gateway in gateways)
    report.alarms = len(kept.rows(home, FILE, ALARMS)[0])
    report.faults += [fault for gateway in gateways for fault in gateway.faults]
    report.faults += ["never acknowledged" for gateway in gateways if gateway.sent.keys() - gateway.acknowledged]
    report.faults += kept.whole(home) + kept.journal_faults(home, gateways) + kept.alarm_faults(home) + kept.risk_faults(home)
    for ward, follower in zip(WARDS, followers, strict=True):
        report.faults += kept.follower_faults(home, ward, follower.seen)
    return report


def _kill_once(machine: Machine, victim: str, rng: random.Random, report: Report) -> None:
    if rng.random() < 1 / 3:
        time.sleep(rng.uniform(0, _START_SECONDS))
        report.during_start += 1
    else:
        machine.at_work()
        machine.bury()
        time.sleep(rng.uniform(0, _WORK_SECONDS))
    if not machine.kill(victim):  # it is not there yet
        victim = "everything"
        machine.kill(victim)
    report.kills[victim] += 1
    if victim in {"everything", "supervisor"}:
        machine.start()
    elif rng.random() < 0.5:
        report.back[victim].append(machine.at_work())


def _wait_until_drained(home: Path) -> None:
    deadline = time.time() + _BACK_SECONDS
    while not kept.drained(home):
        if time.time() > deadline:
            raise ServerError("risks do not follow the journal")
        time.sleep(0.1)


def _service_of(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error, ValueError, IndexError):
        command = process.cmdline()
        return command[command.index("--service-name") + 1]
    return ""


def _kill(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()  # psutil makes sure that it is still the one we started
