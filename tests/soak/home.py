"""Homes for servers that are killed and attacked."""

import shutil
from datetime import timedelta
from pathlib import Path
from unittest import mock

from vigil.features.store.client import Store
from vigil.models.training import candidate_models
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.build_features import build, materialize
from vigil.pipelines.jobs.ingest import ingest
from vigil.pipelines.jobs.train import train
from vigil.pipelines.sources.simulated import SimulatedWard
from vigil.serving.auth.local_tokens import create_local_token
from vigil.serving.identity import identities
from vigil.serving.records import journal, prediction_log, ward_state

TASK = "deterioration"
# Databases that the API writes, with their -wal and -shm files.
_API_DATABASES = [f"{module.SCHEMA.file}*" for module in (ward_state, identities, journal, prediction_log)]


def make_home(home: Path) -> Path:
    """Make a home of a small ward with a champion, which has fewer trees than a real model."""
    with mock.patch.object(candidate_models, "HOURLY", {**candidate_models.HOURLY, "n_estimators": 80, "learning_rate": 0.1}):
        opened = Home(home)
        ingest(SimulatedWard(patients=220, patients_per_batch=60), opened)
        build(opened)
        train(opened)
        materialize(opened)
    return home


def copy_home(home: Path, folder: Path) -> Path:
    """Copy a home without the databases that the API writes. The files of the model are not copied."""
    shutil.copytree(home, folder, ignore=shutil.ignore_patterns("bentoml", "logs", "reports", *_API_DATABASES))
    Store(folder).apply()  # the paths in the store are absolute
    return folder


def token_for(home: Path) -> str:
    """Return a token of a caller with all scopes and wards."""
    return create_local_token(home, subject="soak", scopes=None, wards=None, lifetime=timedelta(hours=12))
