"""The baseline for the API: a minimal Starlette endpoint with the same features and the same prediction.

It has no token, no check, no log, no NEWS2 and no time of the data. Run it with ``uvicorn
tests.benchmarks.baseline_server:app``, with home and task in the environment.
"""

import json
from typing import Any

import numpy as np
from feast import FeatureStore
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from models.registry import Registry
from serving.settings import Settings

settings = Settings()
model = Registry(settings.home).load(settings.task).model
store = FeatureStore(fs_yaml_file=settings.home / "feature_store.yaml")
service = store.get_feature_service(str(model.metadata_["feature_service"]))


async def risk(request: Request) -> JSONResponse:
    """Answer with the probability of a patient."""
    patient = json.loads(await request.body())["patient_id"]
    features: dict[str, Any] = store.get_online_features(service, [{"patient_id": patient}]).to_dict()
    row = np.array([[np.nan if features[name][0] is None else features[name][0] for name in model.features]], dtype=np.float32)
    views = [
        np.mean([member.booster_.predict(row, raw_score=True, num_threads=1)[0] for member in view]) for view in model.members_
    ]
    margin = float(np.dot(views, model.weights_) + model.intercept_)
    return JSONResponse({"patient_id": patient, "probability": 1 / (1 + np.exp(-margin))})


app = Starlette(routes=[Route("/risk", risk, methods=["POST"])])
