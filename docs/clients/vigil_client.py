"""A client of Vigil's prediction API, to read and to copy from. It needs httpx and nothing of Vigil's.

    VIGIL_TOKEN="$(vigil token)" python docs/clients/vigil_client.py --url http://127.0.0.1:3000

walks through it with a patient of its own, who is discharged at the end. docs/api.md says what each answer means.
"""

import argparse
import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

import httpx

Json = dict[str, Any]

PAUSES: Final = (0.5, 1, 2, 4, 8)  # seconds before each further try, unless the server names its own
READINGS_AT_ONCE: Final = 1_000  # a request may hold 5,000, and 1 MB
SILENCE_SECONDS: Final = 40  # a stream says something every 15 s; one that does not is dead


class Problem(Exception):  # noqa: N818 - its name in RFC 9457
    """What the API refuses and why. ``code`` is for programs, ``detail`` for people; neither holds a patient's data."""

    def __init__(self, answer: httpx.Response) -> None:
        ours = answer.headers.get("content-type") == "application/problem+json"  # a proxy's own pages are not
        body: Json = answer.json() if ours else {"code": f"http_{answer.status_code}", "detail": answer.reason_phrase}
        super().__init__(f"{answer.status_code} {body['code']}: {body['detail']}", *body.get("errors", []))
        self.code: str = body["code"]


@dataclass(frozen=True)
class Event:
    """What happened in a ward.

    ``kind``: risk, alarm, alarm_moved, alarm_withheld, alarm_ended, acknowledged, overridden, silent, left; or reset, without a
    patient: the server could not go on from the last event, so ask for the ward's list anew.
    """

    id: int
    kind: str
    data: Json


class Vigil:
    """One server. ``token`` is called for each request, since a token lasts for hours only."""

    def __init__(self, url: str, token: Callable[[], str]) -> None:
        self._http = httpx.Client(base_url=url, timeout=10)
        self._token = token

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def register(self, patients: Sequence[Json]) -> None:
        """Say who patients are and where, from now on: ``patient_id, ward`` and optionally age, sex, admission, discharged."""
        self._ask("POST", "/v1/patients", json={"patients": patients})

    def send(self, readings: Sequence[Json]) -> list[Json]:
        """Send readings; returns what became of each: ``status`` accepted, duplicate or quarantined, and why."""
        results: list[Json] = []
        for first in range(0, len(readings), READINGS_AT_ONCE):
            part = readings[first : first + READINGS_AT_ONCE]
            results += self._ask("POST", "/v1/observations", json={"observations": part})["results"]
        return results

    def risk(self, patient_id: str, include: Sequence[str] = ()) -> Json:
        """The risk now. ``include``: contributions, range."""
        return self._ask("POST", "/v1/risk", json={"patient_id": patient_id, "include": include})

    def visit_summary(self, patient_id: str, hours: float = 24) -> Json:
        """Everything for a teleconsultation."""
        return self._ask("POST", "/v1/visit-summary", json={"patient_id": patient_id, "hours": hours})

    def ward(self, ward: str) -> list[Json]:
        """A ward's patients: alarms that nobody acted on first, then by expected benefit."""
        patients: list[Json] = self._ask("GET", "/v1/ward/patients", params={"ward": ward})["patients"]
        return patients

    def acknowledge(self, alarm_id: str) -> Json:
        """Say that somebody takes care of it."""
        return self._ask("POST", "/v1/alarms/acknowledge", json={"alarm_id": alarm_id})

    def override(self, alarm_id: str, reason: str, note: str | None = None) -> Json:
        """Say that it was not right, and why. Name no patient in the note."""
        return self._ask("POST", "/v1/alarms/override", json={"alarm_id": alarm_id, "reason": reason, "note": note})

    def events(self, ward: str, after: int | None = None, seconds: float = float("inf")) -> Iterator[Event]:
        """What happens in a ward, each event at least once, across connections that drop.

        Keep the id of the last event that you have dealt with: with it as ``after`` you go on where you were.
        """
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            asked = {"ward": ward} | ({} if seconds == float("inf") else {"seconds": f"{left:.1f}"})
            headers = self._headers() | ({} if after is None else {"Last-Event-ID": str(after)})
            timeout = httpx.Timeout(10, read=SILENCE_SECONDS)
            try:
                with self._http.stream("GET", "/v1/ward/events", params=asked, headers=headers, timeout=timeout) as answer:
                    if answer.is_client_error and answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
                        answer.read()
                        raise Problem(answer)
                    for event in parse(answer.iter_lines() if answer.is_success else ()):
                        if event.kind:
                            yield event
                        after = event.id
            except httpx.TransportError:
                pass  # dropped; what it missed comes with the next
            time.sleep(min(1, max(0, end - time.monotonic())))

    def _ask(self, method: str, path: str, **request: Any) -> Json:
        """Ask, and ask again where the answer was lost or the server is busy.

        The very same request may be sent twice: readings are recognised by their message_id, and to acknowledge twice is to
        acknowledge once.
        """
        for pause in (*PAUSES, None):
            try:
                answer = self._http.request(method, path, headers=self._headers(), **request)
            except httpx.TransportError:
                if pause is None:
                    raise
                time.sleep(pause)
                continue
            if answer.is_success:
                body: Json = answer.json()
                return body
            if pause is None or not (answer.is_server_error or answer.status_code == httpx.codes.TOO_MANY_REQUESTS):
                raise Problem(answer)
            named = answer.headers.get("retry-after", "")
            time.sleep(float(named) if named.isdecimal() else pause)
        raise AssertionError

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token()}"}


def parse(lines: Iterable[str]) -> Iterator[Event]:
    """Server-sent events (WHATWG HTML 9.2): lines ``field: value``; an empty line ends one. Without a kind it is an id only."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")  # a comment has no name
        elif "id" in fields:
            yield Event(int(fields["id"]), fields.get("event", ""), json.loads(fields.get("data", "{}")))
            fields = {}


def readings_of(patient_id: str, values: Mapping[str, float], at: datetime) -> list[Json]:
    """Readings of one patient at one time. The message_id is made once and kept with the reading until it is accepted."""
    return [
        {
            "message_id": str(uuid.uuid4()),
            "patient_id": patient_id,
            "signal": signal,
            "value": value,
            "observed_at": at.isoformat(),
            "source": "example-gateway",
        }
        for signal, value in values.items()
    ]


def show_sent(results: Sequence[Json]) -> None:
    """What became of readings. The quarantined are for whoever runs the device: sending them again does not help."""
    counts = {status: sum(r["status"] == status for r in results) for status in ("accepted", "duplicate", "quarantined")}
    print("sent:", ", ".join(f"{status} {count}" for status, count in counts.items()))
    for r in results:
        if r["status"] == "quarantined":
            print(f"  quarantined {r['message_id']}: {r['reason']}; {r['field']}: expected {r['expected']}")


def show_risk(risk: Json) -> None:
    """Print the band and what decided it, the model's probability or why there is none, and NEWS2."""
    because = f" ({', '.join(risk['reasons'])})" if risk["reasons"] else ""
    news2 = f"NEWS2 {risk['news2']['score']} to {risk['news2']['highest']}{because}"
    if risk["basis"] == "model":
        said = f"{risk['probability']:.3f} within {risk['horizon_hours']:g} h, model {risk['model']['version']}"
    else:
        said = f"no probability; findings: {', '.join(risk['findings'])}"
    print(f"risk as of {risk['as_of']}: {risk['band']}, decided by {risk['decided_by']}; {said}; {news2}")
    if instead := risk["news2"]["use_instead"]:
        print(f"  NEWS2 is not made for this patient; use {instead}")
    if risk["unusual"]:
        print(f"  unlike the patients the model learned from: {', '.join(risk['unusual'])}")
    for part in risk["contributions"] or ():
        print(f"  {part['signal']}: {'not measured' if part['measured'] is False else format(part['log_odds'], '+.2f')}")


def follow(vigil: Vigil, ward: str, patient_id: str, seconds: float) -> str | None:
    """Print what happens until an alarm of the patient was acknowledged; returns which."""
    for event in vigil.events(ward, after=0, seconds=seconds):  # 0: everything the ward still has
        print(f"event {event.id} {event.kind} {json.dumps(event.data)}")
        if event.data.get("patient_id") == patient_id:
            if event.kind == "alarm":
                vigil.acknowledge(event.data["alarm_id"])
            elif event.kind == "acknowledged":
                return str(event.data["alarm_id"])
    print(f"no alarm within {seconds:g} s")
    return None


def main() -> None:
    """Walk through the API."""
    parser = argparse.ArgumentParser(description="Walk through Vigil's API with a patient of its own.")
    parser.add_argument("--url", default="http://127.0.0.1:3000")
    parser.add_argument("--ward", default="example")
    parser.add_argument("--seconds", type=float, default=20, help="for which events are followed")
    given = parser.parse_args()
    token = os.environ.get("VIGIL_TOKEN", "")  # as an argument, everybody on this machine could read it
    if not token:
        parser.error("VIGIL_TOKEN: not set; expected a token with all scopes, such as vigil token gives")
    patient = {"patient_id": f"example-{uuid.uuid4()}", "ward": given.ward, "age": 71, "sex": "female"}
    who: str = patient["patient_id"]
    with Vigil(given.url, lambda: token) as vigil:
        vigil.register([patient])
        print(f"patient {who} in ward {given.ward}")
        now = datetime.now(UTC)
        values = {"heart_rate": 131, "respiratory_rate": 28, "systolic_bp": 94, "body_temperature": 38.9}
        readings = readings_of(who, values, now)
        show_sent(vigil.send([*readings, *readings_of(who, {"spo2": 9}, now)]))  # a probe that slipped off
        show_sent(vigil.send(readings))  # the same messages once more: nothing counts twice
        vigil.send(readings_of(who, {"heart_rate": 118}, now - timedelta(minutes=30)))  # late, and welcome
        show_risk(vigil.risk(who, ["contributions"]))
        summary = vigil.visit_summary(who)
        print(f"trend {summary['history']['trend']['direction']}, {len(summary['alarms'])} alarms")
        alarm_id = follow(vigil, given.ward, who, given.seconds)
        for row in vigil.ward(given.ward):
            print(f"ward: {row['patient_id']} {row['band']}, NEWS2 {row['news2']}, alarm {row['alarm_status']}")
        if alarm_id:
            alarm = vigil.override(alarm_id, "other", "an example")
            print(f"alarm {alarm_id} {alarm['status']} by {alarm['acted_by']}: {alarm['reason']}")
        vigil.register([{**patient, "discharged": True}])


if __name__ == "__main__":
    main()
