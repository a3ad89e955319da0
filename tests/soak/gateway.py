"""A gateway of a ward. It sends what its monitors measure, and sends again what was not acknowledged."""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

PATIENTS = 4  # for each gateway
WARDS = ("B4", "C1")
_PAUSE_SECONDS = 0.1
_WELL = {"heart_rate": 72, "respiratory_rate": 14, "spo2": 97, "systolic_bp": 124, "body_temperature": 36.8}
_SICK = {"heart_rate": 138, "respiratory_rate": 31, "spo2": 84, "systolic_bp": 84, "body_temperature": 39.4}
_CODES = ("consciousness", "on_oxygen")  # 0 in well patients, 1 in sick ones


@dataclass
class Patient:
    """A monitored patient, who becomes ill or well again at the step ``changes_at``."""

    name: str
    ward: str
    sick: bool = False
    changes_at: int = 0


class _Worker:
    """A thread that runs ``_run`` until :meth:`stop` is called."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        raise NotImplementedError


@dataclass
class Gateway(_Worker):
    """A gateway that sends until it is stopped, also while the server is down.

    Attributes:
        number: of this gateway. Its messages carry it.
        url: returns the address of the server.
        token: of the gateway.
        seed: of everything random.
        sent: observations by message.
        acknowledged: messages that the server must not lose.
        registered: patients whose registration was acknowledged.
        faults: answers that a gateway must never receive.
        resent: number of requests sent again.
    """

    number: int
    url: Callable[[], str]
    token: str
    seed: int
    sent: dict[str, dict[str, Any]] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    registered: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)
    resent: int = 0

    def __post_init__(self) -> None:
        self._rng = random.Random(f"{self.seed}/{self.number}")
        self.patients = [Patient(f"soak-{self.number}-{n}", WARDS[n % 2]) for n in range(PATIENTS)]
        self._abandoned = threading.Event()
        self._client = httpx.Client(headers={"Authorization": f"Bearer {self.token}"}, timeout=5)
        super().__init__()

    def stop(self) -> None:
        """Stop once everything is acknowledged."""
        super().stop()
        self._client.close()

    def abandon(self) -> None:
        """Stop at once, even if some messages were not acknowledged."""
        self._abandoned.set()
        self.stop()

    def _run(self) -> None:
        for patient in self.patients:
            self._register(patient, discharged=False)
        step, previous = 0, []
        while not self._stop.is_set():
            step += 1
            batch = self._measure(step)
            tries = self._deliver("/v1/observations", {"observations": batch}, self._receive)
            if tries > 1:  # after a lost connection the gateway does not know what was accepted before
                self.resent += 1
                self._deliver("/v1/observations", {"observations": previous + batch}, self._receive_duplicates)
            previous = batch
            if step % 20 == 0:  # a patient is discharged and readmitted
                patient = self._rng.choice(self.patients)
                self._register(patient, discharged=True)
                self._stop.wait(0.2)
                self._register(patient, discharged=False)
            self._stop.wait(_PAUSE_SECONDS)

    def _measure(self, step: int) -> list[dict[str, Any]]:
        batch = []
        for patient in self.patients:
            changes = step >= patient.changes_at
            if changes:
                patient.sick, patient.changes_at = not patient.sick, step + self._rng.randint(5, 40)
            values: dict[str, float] = {
                signal: round(level * self._rng.uniform(0.98, 1.02), 1)
                for signal, level in (_SICK if patient.sick else _WELL).items()
            }
            values |= dict.fromkeys(_CODES, int(patient.sick))
            for signal in values if changes else self._rng.sample(list(values), 3):
                batch.append(
                    {
                        "message_id": f"{self.number}-{len(self.sent)}",
                        "patient_id": patient.name,
                        "signal": signal,
                        "value": values[signal],
                        "observed_at": datetime.now(UTC).isoformat(),
                        "source": f"gateway-{self.number}",
                    }
                )
                self.sent[batch[-1]["message_id"]] = batch[-1]
        return batch

    def _register(self, patient: Patient, *, discharged: bool) -> None:
        registration = {"patient_id": patient.name, "ward": patient.ward, "age": 70, "sex": "female", "discharged": discharged}
        self._deliver("/v1/patients", {"patients": [registration]}, lambda _: self.registered.add(patient.name))

    def _deliver(self, path: str, body: dict[str, Any], receive: Callable[[Any], None]) -> int:
        """Send a request until it is acknowledged, and return the number of tries."""
        tries = 0
        while not self._abandoned.is_set():
            tries += 1
            try:
                answer = self._client.post(self.url() + path, json=body)
                if answer.status_code == 200:
                    receive(answer.json())
                    return tries
                if answer.status_code < 500:
                    self.faults.append(f"{path}: {answer.status_code} {answer.text}")
                    return tries
            except httpx.TransportError:
                pass  # the server is down, or was killed during the request
            self._abandoned.wait(0.05)
        return tries

    def _receive(self, answer: Any) -> None:
        for result in answer["results"]:
            if result["status"] == "quarantined":
                self.faults.append(f"quarantined: {result['reason']}")
            self.acknowledged.add(result["message_id"])

    def _receive_duplicates(self, answer: Any) -> None:
        if answer["duplicate"] != len(answer["results"]):
            self.faults.append(f"acknowledged before, but not a duplicate now: {answer['accepted']} + {answer['quarantined']}")


class Follower(_Worker):
    """A follower of a ward's events. After a lost connection it continues from the last event."""

    def __init__(self, ward: str, url: Callable[[], str], token: str) -> None:
        self.seen: list[int] = []
        self._ward, self._url, self._token = ward, url, token
        super().__init__()

    def abandon(self) -> None:
        self.stop()

    def _run(self) -> None:
        with httpx.Client(headers={"Authorization": f"Bearer {self._token}"}, timeout=20) as client:
            while not self._stop.is_set():
                try:
                    self._listen(client)
                except httpx.TransportError:
                    self._stop.wait(0.1)

    def _listen(self, client: httpx.Client) -> None:
        params = {"ward": self._ward, "seconds": 5}
        headers = {"Last-Event-ID": str(self.seen[-1] if self.seen else 0)}
        with client.stream("GET", self._url() + "/v1/ward/events", params=params, headers=headers) as answer:
            if answer.status_code != 200:
                self._stop.wait(0.1)
                return
            for line in answer.iter_lines():
                if line.startswith("id: "):
                    self.seen.append(int(line.removeprefix("id: ")))
