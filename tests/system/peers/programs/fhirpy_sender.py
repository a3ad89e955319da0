"""A gateway that sends Observations with fhirpy until it is told to stop, and sends again what had no answer.

Arguments: a folder and a name. ``FOLDER/url`` holds the present address of the server; when ``FOLDER/stop`` is there, the step
that is under way is finished. Prints one line of JSON for each Observation whose answer has come.
"""

import json
import os
import random
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import requests
from fhirpy import SyncFHIRClient
from fhirpy.base.exceptions import OperationOutcome


def deliver(send, sent):
    """Send until there is an answer that the server has stored something; return it."""
    while True:
        try:
            url = f"{(folder / 'url').read_text()}/fhir"
            client = SyncFHIRClient(url, f"Bearer {os.environ['TOKEN']}", requests_config={"timeout": 10})
            return send(client, sent)
        except (requests.RequestException, json.JSONDecodeError):
            time.sleep(0.05)
        except OperationOutcome as error:
            if error.resource is not None and error.resource["issue"][0]["code"] not in ("transient", "throttled"):
                raise
            time.sleep(0.05)


def save(client, sent):
    return client.resource("Observation", **sent).save()


def post(client, sent):
    return client.execute("", data=sent)


def times():
    """Yield times of the present, each later than the one before."""
    last = 0.0
    while True:
        last = max(last + 0.001, round(time.time(), 3))
        yield datetime.fromtimestamp(last, UTC).isoformat(timespec="milliseconds")


def observation(number, **more):
    return {
        "resourceType": "Observation",
        "status": "final",
        "identifier": [{"system": "urn:soak", "value": f"{name}-{number}"}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"identifier": {"system": "urn:soak:patients", "value": name}},
        "effectiveDateTime": next(clock),
        "valueQuantity": {"value": round(rng.uniform(60, 120), 1), "system": "http://unitsofmeasure.org", "code": "/min"},
        **more,
    }


def acknowledged(*sent):
    for each in sent:
        print(json.dumps({"at": each["effectiveDateTime"], "value": each["valueQuantity"]["value"]}), flush=True)


folder, name = Path(sys.argv[1]), sys.argv[2]
rng, clock, number = random.Random(name), times(), 0
while not (folder / "stop").exists():
    number += 10
    single = observation(number)
    deliver(save, single)
    acknowledged(single)

    entries = [observation(number + 1 + position) for position in range(5)]
    written = [{"resource": each, "request": {"method": "POST", "url": "Observation"}} for each in entries]
    bundle = {"resourceType": "Bundle", "type": rng.choice(["batch", "transaction"]), "entry": written}
    answer = deliver(post, bundle)
    assert {entry["response"]["status"] for entry in answer["entry"]} <= {"200", "201"}, answer
    acknowledged(*entries)

    first = observation(number + 6, id=f"{name}-own-{number}")
    changed = {**first, "status": "corrected", "valueQuantity": {**first["valueQuantity"], "value": 130.5}}
    deliver(save, first)
    deliver(save, changed)
    acknowledged(changed)
