"""The baselines for the API: minimal Starlette endpoints, one with the same features and the same prediction, one with one row.

They have no token, no check, no log, no NEWS2 and no time of the data. Run them with ``uvicorn
tests.benchmarks.baseline_server:app``, with home and task in the environment.
"""

import json
import sqlite3
from typing import Any

import numpy as np
from feast import FeatureStore
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from vigil.models.registry import Registry
from vigil.serving.records.ward_state import SCHEMA
from vigil.serving.settings import Settings

settings = Settings()
model = Registry(settings.home).load(settings.task).model
ward_state = sqlite3.connect(f"file:{settings.home / SCHEMA.file}?mode=ro", uri=True)
store = FeatureStore(fs_yaml_file=settings.home / "feature_store.yaml")
service = store.get_feature_service(str(model.metadata_["feature_service"]))


async def risk(request: Request) -> JSONResponse:
    """Answer with the probability of a patient."""
    patient = json.loads(await request.body())["patient_id"]
    features: dict[str, Any] = store.get_online_features(service, [{"subject_id": patient}]).to_dict()
    row = np.array([[np.nan if features[name][0] is None else features[name][0] for name in model.features]], dtype=np.float32)
    views = [
        np.mean([member.booster_.predict(row, raw_score=True, num_threads=1)[0] for member in view]) for view in model.members_
    ]
    margin = float(np.dot(views, model.weights_) + model.intercept_)
    return JSONResponse({"patient_id": patient, "probability": 1 / (1 + np.exp(-margin))})


async def row(request: Request) -> JSONResponse:
    """Answer with the row of a patient in the ward state."""
    patient = json.loads(await request.body())["patient_id"]
    cursor = ward_state.execute("SELECT * FROM risks WHERE subject_id = ?", (patient,))
    names = [column[0] for column in cursor.description]
    return JSONResponse(dict(zip(names, cursor.fetchone(), strict=True)))


app = Starlette(routes=[Route("/risk", risk, methods=["POST"]), Route("/row", row, methods=["POST"])])
