"""Predict: held-out patients through the online path, and one of them over HTTP, as a care platform would ask."""

import json
import urllib.request
from pathlib import Path
from typing import Any

from models.cohort import split_of
from pipelines.cohort_store import CohortStore
from pipelines.progress import CONSOLE, track, working
from pipelines.server import ServerError, running_server
from serving.schemas import MAX_PATIENTS, RiskAnswer
from serving.scoring import RiskScorer


def predict_held_out(home: Path, scorer: RiskScorer) -> list[RiskAnswer]:
    """Score every held-out patient from the online store, as of the clock's now; each is logged.

    A patient of whom nothing recent is known has no risk; how many those are is said, not hidden.

    Raises:
        ServerError: a patient cannot be scored for any other reason.
    """
    patients = [subject for subject in CohortStore(home).read("stays")["subject_id"] if split_of(subject) == "held_out"]
    chunks = [patients[first : first + MAX_PATIENTS] for first in range(0, len(patients), MAX_PATIENTS)]
    answers: list[RiskAnswer] = []
    for chunk in track(chunks, "predict", len(chunks)):
        for item in scorer.by_id(chunk):
            if item.risk is not None:
                answers.append(item.risk)
            elif item.problem is None or item.problem.code != "no_recent_readings":
                raise ServerError(f"a held-out patient could not be scored: {item.problem}")
    if len(answers) < len(patients):
        CONSOLE.print(f"  {len(patients) - len(answers):,} of {len(patients):,} patients have no recent reading, so no risk")
    return answers


def predict_over_http(home: Path, task: str, pseudonym: str) -> dict[str, Any]:
    """Start the prediction server on a free port, ask it for one patient's risk, and stop it."""
    patient_id = pseudonym  # as the API knows its patients
    with working("one prediction over HTTP"), running_server(home, task) as url:
        body = json.dumps({"patient_id": patient_id}).encode()
        request = urllib.request.Request(f"{url}/v1/risk", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
    return found
