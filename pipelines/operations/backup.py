"""Back up a home while its server runs.

SQLite's own backup copies each database as it stands at one moment. The moments differ, so the order matters: data that were
derived are copied before the data they were derived from, which only grow.

- A row of Feast's online store was computed from groups of the journal.
- So was a risk of the ward state. The rescorer continues from the position that the ward state holds, and a prediction that it
  makes again is in the prediction log under the same name.
- A prediction needs its model.
- An observation needs the identifier of its patient. That is stored before the observation, so the identities come after the
  journal.

Retention, and jobs that rewrite files (ingest, features, train), must not run meanwhile.

A backup leaves out what can be computed again: Feast's registry, which holds absolute paths, and the list of what its online
store was loaded with, which may change while the backup is taken. Sessions of people who are logged in are left out, too:
a restored home has none.
"""

import hashlib
import hmac
import json
import os
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Final

from vigil.features.errors import VigilError
from vigil.features.files import read_hex_key, write_new
from vigil.features.installed import FILE as PACKAGES_FILE
from vigil.features.pseudonyms import CHECK_FILE, KEY_FILE
from vigil.models.monitoring.change_control_plan import FILE as PLAN_FILE
from vigil.models.own_tasks import FILE as TASKS_FILE
from vigil.pipelines.drift.decisions import DECISIONS_FOLDER as DECISIONS
from vigil.pipelines.home import Home
from vigil.pipelines.operations.upgrade import FILE as VERSION_FILE
from vigil.pipelines.operations.upgrade import database_files
from vigil.pipelines.progress import timed_step, track
from vigil.serving.auth.local_tokens import LOCAL_FOLDER
from vigil.serving.fhir import settings as fhir_settings
from vigil.serving.identity import identities
from vigil.serving.login import settings as login_settings
from vigil.serving.records import connection_tables, journal, prediction_log, source_settings, ward_settings, ward_state
from vigil.serving.records.clock import FILE as CLOCK_FILE
from vigil.serving.records.database import open_database
from vigil.serving.records.sessions import Sessions
from vigil.serving.smart import clients

MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.hmac"
BACKUP_KEY: Final = "backup.key"  # stays in the home and is in no backup, so that no one else can sign a manifest
DATABASES: Final = (  # in the order of copying; see above
    "feast/online.db",
    *database_files(ward_state.SCHEMA),
    *database_files(prediction_log.SCHEMA),
    *database_files(journal.SCHEMA),
    *database_files(identities.SCHEMA),
    *database_files(connection_tables.SCHEMA),
    "mlflow.db",
)
STORE_CONFIGURATION: Final = "feature_store.yaml"
FILES: Final = (
    KEY_FILE,
    CHECK_FILE,
    LOCAL_FOLDER,
    ward_settings.FILE,
    source_settings.FILE,
    clients.FILE,
    fhir_settings.FILE,
    login_settings.FILE,
    CLOCK_FILE,
    TASKS_FILE,
    PACKAGES_FILE,
    STORE_CONFIGURATION,
    "features",
    "mlartifacts",
    "cohort",
    PLAN_FILE,
    DECISIONS,
    VERSION_FILE,
)

_KEY_BYTES: Final = 32
_WAIT_SECONDS: Final = 30  # for another process that writes to a database


class BackupError(VigilError):
    """A backup that cannot be taken, or cannot be trusted."""


@dataclass(frozen=True)
class FileRecord:
    """Checksum and size (bytes) of one file of a backup."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """Contents of a backup.

    Attributes:
        vigil: the version that took it.
        taken_at: when it began, ISO 8601. Every observation acknowledged before is in it.
        home: path of the home.
        files: by path inside the backup.
    """

    vigil: str
    taken_at: str
    home: str
    files: dict[str, FileRecord]


def backup(home: Home, to: Path) -> Manifest:
    """Back up a home into a new or empty folder. The manifest is written last, so an unfinished backup has none.

    Raises:
        BackupError: there is no home, the folder is not empty, or a database cannot be read.
    """
    require_empty_folder("--to", to)
    databases = [name for name in DATABASES if (home.path / name).exists()]
    if not databases:
        raise BackupError(f"--home {home.path}: nothing to back up; expected a home that vigil run or vigil serve has made")
    taken_at = datetime.now(UTC).isoformat()
    to.mkdir(mode=0o700, parents=True, exist_ok=True)
    to.chmod(0o700)  # before any file is in it
    for name in track(databases, "databases", len(databases)):
        _copy_database(home.path / name, with_folder(to / name))
    _leave_sessions_out(to)
    files = list(_files(home.path))
    for path in track(files, "files", len(files)):
        shutil.copyfile(path, with_folder(to / path.relative_to(home.path)))
    make_private(to)
    with timed_step("manifest"):
        records = {str(path.relative_to(to)): describe_file(path) for path in sorted(to.rglob("*")) if path.is_file()}
        manifest = Manifest(installed("vigil"), taken_at, str(home.path.resolve()), records)
        _write_signed(manifest, to, _backup_key(home.path))
        os.sync()
    return manifest


def read_backup_key(path: Path) -> bytes:
    """Read the key that the manifests of a home are signed with.

    Raises:
        BackupError: the file holds no such key.
    """
    key = read_hex_key(path, _KEY_BYTES)
    if key is None:
        raise BackupError(f"{path}: not the key of a home; expected its {BACKUP_KEY}, {2 * _KEY_BYTES} hexadecimal digits")
    return key


def sign(manifest: Path, key: bytes) -> str:
    """Return the signature of a manifest: HMAC-SHA256, in hexadecimal digits."""
    return hmac.digest(key, manifest.read_bytes(), "sha256").hex()


def describe_file(path: Path) -> FileRecord:
    """Return the checksum and size of a file."""
    with path.open("rb") as file:
        return FileRecord(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def require_empty_folder(option: str, folder: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        BackupError: with the option that named the folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BackupError(f"{option} {folder}: expected a new or an empty folder; name another one")


def make_private(folder: Path) -> None:
    """Let only the owner read what a folder holds: patients' data and keys."""
    for path in folder.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)


def with_folder(path: Path) -> Path:
    """Make the folder of a file; return the path of the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _write_signed(manifest: Manifest, folder: Path, key: bytes) -> None:
    """Write the signature, then the manifest, so that a manifest is never without its signature."""
    unfinished = folder / f"{MANIFEST}.unfinished"
    unfinished.write_text(json.dumps(asdict(manifest), indent=1))
    unfinished.chmod(0o600)
    write_new(folder / SIGNATURE, sign(unfinished, key).encode(), 0o600)
    unfinished.replace(folder / MANIFEST)


def _backup_key(home_path: Path) -> bytes:
    """Return the key of a home's backups; the first backup makes it."""
    path = home_path / BACKUP_KEY
    if not path.exists():
        write_new(path, secrets.token_bytes(_KEY_BYTES).hex().encode(), 0o600)
    return read_backup_key(path)


def _copy_database(path: Path, to: Path) -> None:
    """Copy a database as it stands at one moment, while others write to it."""
    try:
        with (
            closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=_WAIT_SECONDS)) as source,
            closing(sqlite3.connect(to)) as target,
        ):
            source.backup(target)
    except sqlite3.Error as error:
        raise BackupError(
            f"{path}: cannot be copied ({type(error).__name__}); expected a database that is not locked, and room on the disk; "
            "try again"
        ) from None


def _leave_sessions_out(folder: Path) -> None:
    if (folder / connection_tables.SCHEMA.file).exists():
        connections = open_database(folder, connection_tables.SCHEMA)
        Sessions(connections).end_all()
        connections.dispose()


def _files(home_path: Path) -> Iterator[Path]:
    for name in FILES:
        path = home_path / name
        inside = (file for file in path.rglob("*") if file.is_file() and file.suffix != ".unfinished")
        yield from (path,) if path.is_file() else sorted(inside)
