"""Predict for held-out patients through the online path, and for one of them over HTTP as a care platform would."""

import json
import urllib.request
from datetime import timedelta
from typing import Any, Final

from vigil.models.cohort import split_of
from vigil.pipelines.home import Home
from vigil.pipelines.operations.server import ServerError, running_server
from vigil.pipelines.progress import CONSOLE, timed_step, track
from vigil.serving.auth.local_tokens import create_local_token
from vigil.serving.identity.identities import Identities
from vigil.serving.scoring.risk_report import NoReport, RiskReport
from vigil.serving.scoring.risk_service import RiskService

_CHUNK: Final = 500  # patients scored at a time
_TOKEN_LIFETIME: Final = timedelta(minutes=5)
_EXPECTED_FINDINGS: Final = frozenset({"no_recent_readings", "outside_training", "withdrawn"})  # why no model was asked


def predict_held_out(home: Home, service: RiskService) -> list[RiskReport]:
    """Score every held-out patient from the online store, as of the present of the home's clock, and log each prediction.

    A patient has no risk of the model if they have no recent observation, if they are outside the domain of use, or if the
    model is withdrawn. The number of such patients is printed.

    Returns:
        The reports of risks that rest on the model.

    Raises:
        ServerError: a patient cannot be scored for another reason.
    """
    patients = [subject for subject in home.cohort.read("stays")["subject_id"] if split_of(subject) == "held_out"]
    chunks = [patients[first : first + _CHUNK] for first in range(0, len(patients), _CHUNK)]
    reports: list[RiskReport] = []
    for chunk in track(chunks, "predict", len(chunks)):
        for report in service.by_subject(chunk):
            if isinstance(report, NoReport):
                raise ServerError(
                    f"a held-out patient could not be scored: {report.reason}; load the features first: vigil materialize"
                )
            if report.risk.basis == "model":
                reports.append(report)
            elif not _EXPECTED_FINDINGS & set(report.risk.findings):
                findings = ", ".join(report.risk.findings)
                raise ServerError(f"a held-out patient could not be scored: {findings}; for its meaning see docs/api.md")
    if len(reports) < len(patients):
        CONSOLE.print(f"  {len(patients) - len(reports):,} of {len(patients):,} patients have no risk of the model")
    return reports


def predict_over_http(home: Home, task: str, subject_id: str) -> dict[str, Any] | None:
    """Start the prediction server on a free port, request one patient's risk, and stop the server.

    Returns:
        The body of the answer; None: the patient has no identifier here.

    Raises:
        ServerError: the server did not start or did not answer.
    """
    patient_id = Identities(home.path).find([subject_id]).get(subject_id)  # the API takes patient identifiers, as platforms do
    if patient_id is None:
        CONSOLE.print("  one prediction over HTTP: left out; the cohort was exported, and names no patient")
        return None
    token = create_local_token(home.path, subject="vigil run", scopes=["risk:read"], wards=None, lifetime=_TOKEN_LIFETIME)
    with timed_step("one prediction over HTTP"), running_server(home, task) as url:
        body = json.dumps({"patient_id": patient_id, "include": ["contributions", "range"]}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"{url}/v1/risk", body, headers)
        with urllib.request.urlopen(request, timeout=30) as response:
            answer: dict[str, Any] = json.load(response)
    return answer
