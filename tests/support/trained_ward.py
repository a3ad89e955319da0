"""Fixtures: a small ward taken through all jobs once for all tests, which is read only; and copies that a test may change."""

import hashlib
import os
import pickle
import sqlite3
from contextlib import closing

import pytest
from filelock import FileLock

from vigil.pipelines.home import Home

# Other imports are in the fixtures: they take seconds, and most tests need none of them.


@pytest.fixture(scope="session")
def few_trees():
    """Train with fewer trees than a hospital would want, in this process."""
    from vigil.models.training import candidate_models

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidate_models, "HOURLY", {**candidate_models.HOURLY, "n_estimators": 80, "learning_rate": 0.1})
        yield


@pytest.fixture(scope="session")
def chain(tmp_path_factory, few_trees):  # noqa: ARG001 - the model has few trees
    """The main job on a small ward: (its result, the path of the home). The first test process runs it, and others wait."""
    from vigil.pipelines.jobs.run import run
    from vigil.pipelines.operations.backup import backup
    from vigil.pipelines.sources.simulated import SimulatedWard

    session = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        session = session.parent
    folder = session / "trained_ward"
    with FileLock(session / "trained_ward.lock"):
        if not (folder / "result.pickle").exists():
            folder.mkdir()
            result = run(SimulatedWard(patients=220, patients_per_batch=60), Home(folder / "home"))
            backup(Home(folder / "home"), folder / "backup")
            (folder / "result.pickle").write_bytes(pickle.dumps((result, _digests(folder / "home"))))
    result, digests = pickle.loads((folder / "result.pickle").read_bytes())
    yield result, folder / "home"
    after = _digests(folder / "home")
    changed = {path for path in digests.keys() | after.keys() if digests.get(path) != after.get(path)}
    assert not changed, f"tests changed the trained ward, which is read only: {sorted(changed)}; take own_home"


def _digests(home):
    """Return a digest of each file; of a database, of its rows, as SQLite moves pages between files while it reads."""
    files = [path for path in home.rglob("*") if path.is_file() and not path.name.endswith(("-wal", "-shm"))]
    return {str(path.relative_to(home)): hashlib.blake2b(_content(path)).hexdigest() for path in files}


def _content(path):
    content = path.read_bytes()
    if not content.startswith(b"SQLite format 3"):
        return content
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return "\n".join(database.iterdump()).encode()


@pytest.fixture(scope="session")
def home(chain):
    """Path of the home of that ward."""
    return chain[1]


@pytest.fixture(scope="session")
def ward_backup(chain):
    """A backup of that home as the main job left it."""
    return chain[1].parent / "backup"


@pytest.fixture(scope="module")
def own_home(ward_backup, tmp_path_factory):
    """Path of a copy of that home that the tests of a module may change; it has no reports."""
    from vigil.pipelines.operations.restore import restore

    folder = tmp_path_factory.mktemp("own") / "home"
    restore(ward_backup, Home(folder))
    return folder
