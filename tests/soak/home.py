"""Homes whose servers may be killed and told nonsense."""

import shutil
from datetime import timedelta
from pathlib import Path
from unittest import mock

from features.store.client import Store
from models.training import candidate_models
from pipelines.jobs.build_features import build, materialize
from pipelines.jobs.ingest import ingest
from pipelines.jobs.train import train
from pipelines.sources.simulated import SimulatedWard
from serving.auth.local_tokens import local_token
from serving.identity import identities
from serving.records import journal, prediction_log, ward_state

TASK = "deterioration"
_OF_THE_API = [
    f"{file}*" for file in (ward_state.FILE, identities.FILE, journal.FILE, prediction_log.FILE)
]  # and their -wal, -shm


def make_home(home: Path) -> Path:
    """A small ward with a champion; of fewer trees than a hospital would want."""
    with mock.patch.object(candidate_models, "HOURLY", {**candidate_models.HOURLY, "n_estimators": 80, "learning_rate": 0.1}):
        ingest(SimulatedWard(patients=220, patients_per_batch=60), home)
        build(home)
        train(home)
        materialize(home)
    return home


def copy_of(home: Path, folder: Path) -> Path:
    """The same ward and champion; nothing ever came over the API of this one. The model's files stay where they are."""
    shutil.copytree(home, folder, ignore=shutil.ignore_patterns("bentoml", "logs", "reports", *_OF_THE_API))
    Store(folder).apply()  # its paths are absolute
    return folder


def token_for(home: Path) -> str:
    """Of somebody who may do everything."""
    return local_token(home, subject="soak", scopes=None, wards=None, lifetime=timedelta(hours=12))
