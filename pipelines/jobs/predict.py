"""Predict: held-out patients through the online path, and one of them over HTTP, as a care platform would ask."""

import json
import urllib.request
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from models.cohort import split_of
from pipelines.cohort_store import CohortStore
from pipelines.operations.server import ServerError, running_server
from pipelines.progress import CONSOLE, track, working
from serving.api.schemas import MAX_PATIENTS, RiskAnswer
from serving.auth.local_tokens import local_token
from serving.identity.identities import Identities
from serving.scoring.risk_service import RiskScorer

_TOKEN_LIFETIME: Final = timedelta(minutes=5)
_EXPECTED: Final = frozenset({"no_recent_readings", "outside_training", "withdrawn"})  # why the model is not asked


def predict_held_out(home: Path, scorer: RiskScorer) -> list[RiskAnswer]:
    """Score every held-out patient from the online store, as of the clock's now; each is logged.

    A patient of whom nothing recent is known, or who is outside the model's domain of use, has no risk of the model, and no
    patient has one of a model that is withdrawn. The number of such patients is shown.

    Raises:
        ServerError: a patient cannot be scored for any other reason.
    """
    patients = [subject for subject in CohortStore(home).read("stays")["subject_id"] if split_of(subject) == "held_out"]
    chunks = [patients[first : first + MAX_PATIENTS] for first in range(0, len(patients), MAX_PATIENTS)]
    answers: list[RiskAnswer] = []
    for chunk in track(chunks, "predict", len(chunks)):
        for item in scorer.by_id(chunk):
            findings = item.risk.findings if item.risk else [item.problem]
            if item.risk and item.risk.basis == "model":
                answers.append(item.risk)
            elif not _EXPECTED & set(findings):
                raise ServerError(f"a held-out patient could not be scored: {findings}")
    if len(answers) < len(patients):
        CONSOLE.print(f"  {len(patients) - len(answers):,} of {len(patients):,} patients have no risk of the model")
    return answers


def predict_over_http(home: Path, task: str, pseudonym: str) -> dict[str, Any]:
    """Start the prediction server on a free port, ask it for one patient's risk, and stop it."""
    patient_id = Identities(home).of([pseudonym])[pseudonym]  # the API takes identifiers, as a care platform knows them
    token = local_token(home, subject="vigil run", scopes=["risk:read"], wards=None, lifetime=_TOKEN_LIFETIME)
    with working("one prediction over HTTP"), running_server(home, task) as url:
        body = json.dumps({"patient_id": patient_id, "include": ["contributions", "range"]}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"{url}/v1/risk", body, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
    return found
