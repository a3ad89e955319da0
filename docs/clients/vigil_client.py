"""A client of Vigil's prediction API, to read and to copy from. It needs only httpx.

    VIGIL_TOKEN="$(vigil token)" python docs/clients/vigil_client.py --url http://127.0.0.1:3000

This command walks through the API with an example patient, who is discharged at the end. docs/api.md explains each answer.
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

RETRY_PAUSES: Final = (0.5, 1, 2, 4, 8)  # seconds before each retry, unless the server sends Retry-After
BATCH_SIZE: Final = 1_000  # observations in a request; the server accepts up to 5,000 and 1 MB
STREAM_TIMEOUT: Final = 40  # seconds; a stream sends at least one line every 15 s, so a longer pause means it is broken


class Problem(Exception):  # noqa: N818 - its name in RFC 9457
    """An error answer of the API (RFC 9457).

    ``code`` is for programs and ``detail`` for people. Neither holds a patient's data.
    """

    def __init__(self, response: httpx.Response) -> None:
        is_problem = response.headers.get("content-type") == "application/problem+json"  # False for error pages of a proxy
        body: Json = (
            response.json() if is_problem else {"code": f"http_{response.status_code}", "detail": response.reason_phrase}
        )
        super().__init__(f"{response.status_code} {body['code']}: {body['detail']}", *body.get("errors", []))
        self.code: str = body["code"]


@dataclass(frozen=True)
class Event:
    """One change in a ward.

    Attributes:
        id: number of the event. Events of a ward have ascending numbers.
        kind: risk, beyond_range, alarm, alarm_moved, alarm_withheld, alarm_ended, alarm_basis_retracted, acknowledged,
            overridden, silent, left or reset. A reset names no patient. It means that the server cannot continue from the
            last event, so request the ward's list again.
        data: the fields of the event.
    """

    id: int
    kind: str
    data: Json


class Vigil:
    """A connection to one server.

    Args:
        url: of the server.
        token: returns a valid token. It is called for each request, since a token is valid for hours only.
    """

    def __init__(self, url: str, token: Callable[[], str]) -> None:
        self._http = httpx.Client(base_url=url, timeout=10)
        self._token = token

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def register(self, patients: Sequence[Json]) -> None:
        """Register patients or update them: ``patient_id, ward`` and optionally age, sex, admission and discharged."""
        self._request("POST", "/v1/patients", json={"patients": patients})

    def send(self, observations: Sequence[Json]) -> list[Json]:
        """Send observations and return a result for each: ``status`` accepted, duplicate or quarantined, with a reason."""
        results: list[Json] = []
        for first in range(0, len(observations), BATCH_SIZE):
            batch = observations[first : first + BATCH_SIZE]
            results += self._request("POST", "/v1/observations", json={"observations": batch})["results"]
        return results

    def risk(self, patient_id: str, include: Sequence[str] = ()) -> Json:
        """Return the patient's risk now. ``include`` may name contributions and range."""
        return self._request("POST", "/v1/risk", json={"patient_id": patient_id, "include": include})

    def visit_summary(self, patient_id: str, hours: float = 24) -> Json:
        """Return the summary of a patient for a teleconsultation."""
        return self._request("POST", "/v1/visit-summary", json={"patient_id": patient_id, "hours": hours})

    def ward(self, ward: str) -> list[Json]:
        """Return the patients of a ward: those with an open alarm first, then by expected benefit."""
        patients: list[Json] = self._request("GET", "/v1/ward/patients", params={"ward": ward})["patients"]
        return patients

    def acknowledge(self, alarm_id: str) -> Json:
        """Acknowledge an alarm: a clinician takes care of it."""
        return self._request("POST", "/v1/alarms/acknowledge", json={"alarm_id": alarm_id})

    def override(self, alarm_id: str, reason: str, note: str | None = None) -> Json:
        """Override an alarm: state that it was not right, and why. Do not name a patient in the note."""
        return self._request("POST", "/v1/alarms/override", json={"alarm_id": alarm_id, "reason": reason, "note": note})

    def events(self, ward: str, after: int | None = None, seconds: float = float("inf")) -> Iterator[Event]:
        """Yield the events of a ward, each at least once, and reconnect when the connection is lost.

        Args:
            ward: name of the ward.
            after: id of the last event that was processed. The stream continues after it. None starts with new events.
            seconds: how long to follow the ward.
        """
        end = time.monotonic() + seconds
        while (remaining := end - time.monotonic()) > 0:
            params = {"ward": ward} | ({} if seconds == float("inf") else {"seconds": f"{remaining:.1f}"})
            headers = self._headers() | ({} if after is None else {"Last-Event-ID": str(after)})
            timeout = httpx.Timeout(10, read=STREAM_TIMEOUT)
            try:
                with self._http.stream("GET", "/v1/ward/events", params=params, headers=headers, timeout=timeout) as response:
                    if response.is_client_error and response.status_code != httpx.codes.TOO_MANY_REQUESTS:
                        response.read()
                        raise Problem(response)
                    for event in parse_events(response.iter_lines() if response.is_success else ()):
                        if event.kind:
                            yield event
                        after = event.id
            except httpx.TransportError:
                pass  # the connection was lost; the next one continues after the last event
            time.sleep(min(1, max(0, end - time.monotonic())))

    def _request(self, method: str, path: str, **options: Any) -> Json:
        """Send a request, and send it again if the answer was lost or the server is busy.

        It is safe to send the same request twice: observations are recognised by their message_id, and a second
        acknowledgement of an alarm changes nothing.
        """
        for pause in (*RETRY_PAUSES, None):
            try:
                response = self._http.request(method, path, headers=self._headers(), **options)
            except httpx.TransportError:
                if pause is None:
                    raise
                time.sleep(pause)
                continue
            if response.is_success:
                body: Json = response.json()
                return body
            if pause is None or not (response.is_server_error or response.status_code == httpx.codes.TOO_MANY_REQUESTS):
                raise Problem(response)
            retry_after = response.headers.get("retry-after", "")
            time.sleep(float(retry_after) if retry_after.isdecimal() else pause)
        raise AssertionError

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token()}"}


def parse_events(lines: Iterable[str]) -> Iterator[Event]:
    """Parse server-sent events (WHATWG HTML 9.2): lines of ``field: value``, with an empty line after each event.

    An event without a kind carries only an id.
    """
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")  # a comment has no name
        elif "id" in fields:
            yield Event(int(fields["id"]), fields.get("event", ""), json.loads(fields.get("data", "{}")))
            fields = {}


def make_observations(patient_id: str, values: Mapping[str, float], at: datetime) -> list[Json]:
    """Return observations of one patient at one time.

    Create the message_id once, and store it with the observation until the server has accepted it.
    """
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


def print_results(results: Sequence[Json]) -> None:
    """Print how many observations were accepted, and why others were not.

    Report quarantined observations to the operator of the device. Sending them again helps only if they were ahead of the
    server's clock, which has passed their time since.
    """
    counts = {
        status: sum(result["status"] == status for result in results) for status in ("accepted", "duplicate", "quarantined")
    }
    print("sent:", ", ".join(f"{status} {count}" for status, count in counts.items()))
    for result in results:
        if result["status"] == "quarantined":
            print(f"  quarantined {result['message_id']}: {result['reason']}; {result['field']}: expected {result['expected']}")


def print_risk(risk: Json) -> None:
    """Print the band and what decided it, the probability or the reason why there is none, and NEWS2."""
    reasons = f" ({', '.join(risk['reasons'])})" if risk["reasons"] else ""
    news2 = f"NEWS2 {risk['news2']['score']} to {risk['news2']['highest']}{reasons}"
    if risk["basis"] == "model":
        answer = f"{risk['probability']:.3f} within {risk['horizon_hours']:g} h, model {risk['model']['version']}"
    else:
        answer = f"no probability; findings: {', '.join(risk['findings'])}"
    print(f"risk as of {risk['as_of']}: {risk['band']}, decided by {risk['decided_by']}; {answer}; {news2}")
    if instead := risk["news2"]["use_instead"]:
        print(f"  NEWS2 is not intended for this patient; use {instead}")
    if risk["unusual"]:
        print(f"  unusual compared with the training patients: {', '.join(risk['unusual'])}")
    for contribution in risk["contributions"] or ():
        value = "not measured" if contribution["measured"] is False else format(contribution["log_odds"], "+.2f")
        print(f"  {contribution['signal']}: {value}")


def acknowledge_first_alarm(vigil: Vigil, ward: str, patient_id: str, seconds: float) -> str | None:
    """Follow the ward until an alarm of the patient has been acknowledged.

    Returns:
        The id of the alarm, or None if there was none in time.
    """
    for event in vigil.events(ward, after=0, seconds=seconds):  # 0: all events that the ward still stores
        print(f"event {event.id} {event.kind} {json.dumps(event.data)}")
        if event.data.get("patient_id") == patient_id:
            if event.kind == "alarm":
                vigil.acknowledge(event.data["alarm_id"])
            elif event.kind == "acknowledged":
                return str(event.data["alarm_id"])
    print(f"no alarm within {seconds:g} s")
    return None


def main() -> None:
    """Walk through the API with an example patient."""
    parser = argparse.ArgumentParser(
        description="Walk through Vigil's API with an example patient, who is discharged at the end."
    )
    parser.add_argument("--url", default="http://127.0.0.1:3000", help="address of the server (default: %(default)s)")
    parser.add_argument("--ward", default="example", help="ward of the example patient (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="how long to wait for an alarm (default: %(default)s)")
    arguments = parser.parse_args()
    token = os.environ.get("VIGIL_TOKEN", "")  # not an argument: every user of this machine can read arguments
    if not token:
        parser.error("VIGIL_TOKEN: not set; expected a token with all scopes; make one with vigil token")
    patient = {"patient_id": f"example-{uuid.uuid4()}", "ward": arguments.ward, "age": 71, "sex": "female"}
    patient_id: str = patient["patient_id"]
    with Vigil(arguments.url, lambda: token) as vigil:
        vigil.register([patient])
        print(f"patient {patient_id} in ward {arguments.ward}")
        now = datetime.now(UTC)
        values = {"heart_rate": 131, "respiratory_rate": 28, "systolic_bp": 94, "body_temperature": 38.9}
        observations = make_observations(patient_id, values, now)
        implausible = make_observations(patient_id, {"spo2": 9}, now)  # the probe has slipped off the finger
        print_results(vigil.send([*observations, *implausible]))
        print_results(vigil.send(observations))  # the same messages again: each counts once
        late = make_observations(patient_id, {"heart_rate": 118}, now - timedelta(minutes=30))
        vigil.send(late)  # late observations count as well
        print_risk(vigil.risk(patient_id, ["contributions"]))
        summary = vigil.visit_summary(patient_id)
        print(f"trend {summary['history']['trend']['direction']}, {len(summary['alarms'])} alarms")
        alarm_id = acknowledge_first_alarm(vigil, arguments.ward, patient_id, arguments.seconds)
        for row in vigil.ward(arguments.ward):
            print(f"ward: {row['patient_id']} {row['band']}, NEWS2 {row['news2']}, alarm {row['alarm_status']}")
        if alarm_id:
            alarm = vigil.override(alarm_id, "other", "an example")
            print(f"alarm {alarm_id} {alarm['status']} by {alarm['acted_by']}: {alarm['reason']}")
        vigil.register([{**patient, "discharged": True}])


if __name__ == "__main__":
    main()
