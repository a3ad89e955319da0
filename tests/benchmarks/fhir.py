"""FHIR: mapping of Observations beside the parsing of their JSON, and a bulk export as a cohort."""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tests.benchmarks.measure import Section
from tests.support.fhir_resources import component, observation, panel
from tests.support.fhir_ward import write_export
from tests.support.in_process_server import running_in_process
from vigil.pipelines.sources.fhir import FhirCohort
from vigil.serving.fhir.observations import ObservationMapper

NUMBER = 20_000
ROUNDS = 7
BATCH = 1_000  # Observations
PATIENTS = 20
OBSERVATIONS = {
    "heart rate": observation(identifier=[{"system": "urn:monitor", "value": "1"}], device={"reference": "Device/1"}),
    "blood pressure, two components": panel(component("8480-6", 120, "mm[Hg]"), component("8462-4", 80, "mm[Hg]")),
    "temperature in Fahrenheit": observation("8310-5", 98.6, "[degF]", issued="2026-01-31T08:00:01Z"),
    "a date, refused": observation(effectiveDateTime="2026-01-31"),
}


def fhir_section() -> Section:
    """Measure the mapper by kind of Observation, and a simulated ward as a bulk export."""
    mapper = ObservationMapper({"Patient/12": "12"}.get)
    rows = []
    for name, resource in OBSERVATIONS.items():
        text = json.dumps(resource)
        ours, parsing = (_microseconds(work, of) for work, of in ((mapper.map, [resource]), (json.loads, [text])))
        rows.append([name, f"{ours:.1f} us", f"{parsing:.1f} us", f"{ours / parsing:.1f}"])
    rows += [_bulk(), _batch()]
    return Section(
        "FHIR",
        "Processor time of one Observation: mapping (parsed JSON to readings), beside `json.loads` of its text alone. Median "
        f"of {ROUNDS} rounds of {NUMBER:,}. The last rows are a bulk export of {PATIENTS} simulated patients, from files to "
        "the frame that the check takes, beside `json.loads` of all its lines; and a batch from the body of the request to "
        "the disk, beside the native route, by the clock, in one process.",
        ["Observation", "mapping", "parsing", "ratio"],
        rows,
    )


def _microseconds(work: Callable[[Any], object], inputs: Sequence[Any]) -> float:
    times = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(NUMBER // len(inputs)):
            for each in inputs:
                work(each)
        times.append((time.process_time() - started) / NUMBER * 1e6)
    return statistics.median(times)


def _batch() -> list[str]:
    """Measure a batch of Observations beside the native route, in turn, from the body to the disk."""
    seconds: dict[str, list[float]] = {"/fhir": [], "/v1/observations": []}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "fhir.toml").write_text('patient_system = "urn:mrn"\n')
        with running_in_process(Path(folder)) as server:
            caller = server.caller()
            for bodies in (_bodies(turn) for turn in range(ROUNDS)):
                for path, body in bodies.items():
                    started = time.perf_counter()
                    assert caller.post(path, content=body, headers={"Content-Type": "application/json"}).status_code == 200
                    seconds[path].append(time.perf_counter() - started)
    ours, native = (statistics.median(own[1:]) / BATCH * 1e6 for own in seconds.values())
    return [
        f"a batch of {BATCH:,} over `POST /fhir`, each; beside `POST /v1/observations`",
        f"{ours:.0f} us",
        f"{native:.0f} us",
        f"{ours / native:.1f}",
    ]


def _bodies(turn: int) -> dict[str, bytes]:
    """Return the same readings for both routes, of different patients."""
    entries, observations, now = [], [], pd.Timestamp.now("UTC")
    for number in range(turn * BATCH, (turn + 1) * BATCH):
        at = (now - pd.Timedelta(seconds=number)).isoformat()
        subject = {"identifier": {"system": "urn:mrn", "value": f"f{number % 50}"}}
        identifier = [{"system": "urn:monitor", "value": str(number)}]
        more = {"id": None, "subject": subject, "identifier": identifier, "effectiveDateTime": at}
        resource = observation(value=80 + number % 20, **more)
        entries.append({"request": {"method": "POST", "url": "Observation"}, "resource": resource})
        reading = {"signal": "heart_rate", "value": 80 + number % 20, "unit": "/min", "observed_at": at}
        observations.append({"patient_id": f"n{number % 50}", "message_id": str(number), "source": "monitor", **reading})
    bundle = {"resourceType": "Bundle", "type": "batch", "entry": entries}
    return {"/fhir": json.dumps(bundle).encode(), "/v1/observations": json.dumps({"observations": observations}).encode()}


def _bulk() -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        write_export(Path(folder), every=4, patients=PATIENTS, patients_per_batch=PATIENTS)
        lines = [line for path in Path(folder).glob("*.ndjson") for line in path.read_bytes().splitlines()]
        started = time.process_time()
        for line in lines:
            json.loads(line)
        parsing = (time.process_time() - started) / len(lines) * 1e6
        started = time.process_time()
        readings = sum(len(batch.observations) for batch in FhirCohort(Path(folder)).batches())
        ours = (time.process_time() - started) / readings * 1e6
    return [f"a bulk export of {readings:,}, each", f"{ours:.1f} us", f"{parsing:.1f} us", f"{ours / parsing:.1f}"]
