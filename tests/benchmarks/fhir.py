"""FHIR: mapping of Observations beside the parsing of their JSON, and a bulk export as a cohort."""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.measure import Section
from tests.support.fhir_resources import component, observation, panel
from tests.support.fhir_ward import write_export
from vigil.pipelines.sources.fhir import FhirCohort
from vigil.serving.fhir.observations import ObservationMapper

NUMBER = 20_000
ROUNDS = 7
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
    rows.append(_bulk())
    return Section(
        "FHIR",
        "Processor time of one Observation: mapping (parsed JSON to readings), beside `json.loads` of its text alone. Median "
        f"of {ROUNDS} rounds of {NUMBER:,}. The last row is the batch of a bulk export of {PATIENTS} simulated patients, from "
        "files to the frame that the check takes, beside `json.loads` of all its lines.",
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
