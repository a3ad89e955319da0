"""Backup of a home while its server runs, and its restoration, at whatever path.

Databases are taken through SQLite's own backup, each as it stands at one moment, and in an order that lets them fit together
although the moments differ: what was made comes before what it was made of, since that only grows. A row in Feast's online
store was made of groups in the journal. So was a risk on the board; the rescorer goes on from where the board stands, and what
it says again has its name in the log already. A prediction needs its model, and a reading somebody whose it is: that was kept
before the reading, so identities come after the journal. Retention and jobs that rewrite files (ingest, features, train) must
not run meanwhile.

Left out is what can be made anew: Feast's registry, which remembers every path that it ever knew, and the list of what its
online store was loaded with, which may change while the backup is taken.
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
from pathlib import Path, PurePosixPath
from typing import Any, Final

from features.errors import VigilError
from features.files import write_new
from features.pseudonyms import CHECK_FILE, KEY_FILE
from features.store.client import Store
from models.monitoring.change_control_plan import FILE as PLAN_FILE
from pipelines.drift.decisions import FOLDER as DECISIONS
from pipelines.operations.upgrade import FILE as VERSION_FILE
from pipelines.progress import track, working
from serving.auth.local_tokens import LOCAL_FOLDER
from serving.identity import identities
from serving.records import journal, prediction_log, ward_settings, ward_state
from serving.records.clock import FILE as CLOCK_FILE

MANIFEST: Final = "manifest.json"
BACKUP_KEY: Final = "backup.key"  # in the home, never in a backup: what tells our manifests from somebody else's
_SIGNATURE: Final = "manifest.hmac"
DATABASES: Final = (  # in this order; see above
    "feast/online.db", ward_state.FILE, prediction_log.FILE, journal.FILE, identities.FILE, "mlflow.db",
)  # fmt: skip
_STORE: Final = "feature_store.yaml"
FILES: Final = (
    KEY_FILE,
    CHECK_FILE,
    LOCAL_FOLDER,
    ward_settings.FILE,
    CLOCK_FILE,
    _STORE,
    "features",
    "mlartifacts",
    "cohort",
    PLAN_FILE,
    DECISIONS,
    VERSION_FILE,
)

_WAIT_SECONDS: Final = 30  # for a writer of a database


class BackupError(VigilError):
    """A backup cannot be taken, or not be trusted."""


@dataclass(frozen=True)
class _File:
    """A file of a backup."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """What a backup holds.

    Attributes:
        vigil: the version that took it.
        taken_at: when it began, ISO 8601; every reading acknowledged before is in it.
        home: the path it was taken of.
        files: by path.
    """

    vigil: str
    taken_at: str
    home: str
    files: dict[str, _File]


def backup(home: Path, to: Path) -> Manifest:
    """Take a backup of a home into a new or empty folder; the manifest is written last.

    Raises:
        BackupError: there is no home, the folder is in use, or a database cannot be read.
    """
    _require_empty("--to", to)
    databases = [name for name in DATABASES if (home / name).exists()]
    if not databases:
        raise BackupError(f"--home {home}: nothing to back up; expected a home that vigil run or vigil serve has made")
    taken_at = datetime.now(UTC).isoformat()
    to.mkdir(mode=0o700, parents=True, exist_ok=True)
    to.chmod(0o700)  # before anything is in it
    for name in track(databases, "databases", len(databases)):
        _copy_database(home / name, _made(to / name))
    files = list(_files(home))
    for path in track(files, "files", len(files)):
        shutil.copyfile(path, _made(to / path.relative_to(home)))
    _private(to)
    with working("manifest"):
        found = {str(path.relative_to(to)): _described(path) for path in sorted(to.rglob("*")) if path.is_file()}
        manifest = Manifest(installed("vigil"), taken_at, str(home.resolve()), found)
        unfinished = to / f"{MANIFEST}.unfinished"
        unfinished.write_text(json.dumps(asdict(manifest), indent=1))
        unfinished.chmod(0o600)
        signature = hmac.digest(_key(home), unfinished.read_bytes(), "sha256").hex()
        write_new(to / _SIGNATURE, signature.encode(), 0o600)
        unfinished.replace(to / MANIFEST)
        os.sync()
    return manifest


def restore(source: Path, home: Path, key: Path | None = None) -> Manifest:
    """Make a home of a backup, whose every byte is checked first; absolute paths become those of the new home.

    Args:
        source: the backup.
        home: a new or empty folder.
        key: ``backup.key`` of the home that it was taken of; None: take the backup on trust, as one takes a program.

    Raises:
        BackupError: a file of the backup is missing or has changed, or there is something at the home already.
    """
    _require_empty("--home", home)
    manifest = verify(source, key)
    home = home.resolve()
    making = home.with_name(f"{home.name}.unfinished")
    if making.exists():
        raise BackupError(f"{making}: of a restoration that was cut off; remove it first")
    making.mkdir(mode=0o700, parents=True)
    for name in track(manifest.files, "restore", len(manifest.files)):
        if name != _STORE:  # Feast is told last, by the new path
            shutil.copyfile(source / name, _made(making / name))
    _private(making)
    _move_registry(making, Path(manifest.home), home)
    making.replace(home)
    if _STORE in manifest.files:
        with working("apply to Feast"):
            Store(home).apply()
    return manifest


def verify(source: Path, key: Path | None = None) -> Manifest:
    """The manifest of a backup that is as it was taken.

    Args:
        source: the backup.
        key: as for :func:`restore`.

    Raises:
        BackupError: it names the first file that is missing or has changed, or the manifest, if that was not made with the key.
    """
    manifest = _read_manifest(source / MANIFEST)
    if key is not None:
        _authenticate(source, key)
    for name, expected in track(manifest.files.items(), "verify", len(manifest.files)):
        path = source / name
        if not path.resolve().is_relative_to(source.resolve()):
            raise BackupError(f"{path}: leads out of the backup; expected files, not links; use another backup")
        if not path.is_file():
            raise BackupError(f"{path}: missing; expected {expected.size:,} bytes as {MANIFEST} says; use another backup")
        if _described(path) != expected:
            raise BackupError(f"{path}: has changed since the backup was taken (sha256 differs); use another backup")
    return manifest


def _key(home: Path) -> bytes:
    """The key that manifests of this home are signed with; made at the first backup."""
    path = home / BACKUP_KEY
    if not path.exists():
        write_new(path, secrets.token_bytes(32).hex().encode(), 0o600)
    return _read_key(path)


def _read_key(path: Path) -> bytes:
    try:
        key = bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError):
        key = b""
    if len(key) != 32:
        raise BackupError(f"{path}: not the key of a home; expected its {BACKUP_KEY}, 64 hexadecimal digits")
    return key


def _authenticate(source: Path, key: Path) -> None:
    """A manifest is ours only if whoever wrote it had the key: checksums anybody can make anew."""
    signed = source / _SIGNATURE
    made = hmac.digest(_read_key(key), (source / MANIFEST).read_bytes(), "sha256").hex()
    if not signed.is_file() or not hmac.compare_digest(signed.read_text().strip(), made):
        raise BackupError(
            f"{source / MANIFEST}: not signed with {key}; it was changed, is of another home, or of an earlier version; use "
            "another backup, or take it on trust (--trust), as you would a program"
        )


def _read_manifest(path: Path) -> Manifest:
    if not path.is_file():
        raise BackupError(f"{path}: missing; expected the folder of a backup that was finished (vigil backup --to DIR)")
    try:
        said: dict[str, Any] = json.loads(path.read_text())
        manifest = Manifest(**{**said, "files": {name: _File(**about) for name, about in said["files"].items()}})
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BackupError(f"{path}: not a manifest of this version; use another backup") from None
    for name in manifest.files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise BackupError(f"{path}: names a file outside of the backup; use another backup")
    return manifest


def _require_empty(option: str, folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BackupError(f"{option} {folder}: expected a new or an empty folder; name another one")


def _copy_database(path: Path, to: Path) -> None:
    """As it stands at one moment; writers go on."""
    try:
        with (
            closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=_WAIT_SECONDS)) as source,
            closing(sqlite3.connect(to)) as target,
        ):
            source.backup(target)
    except sqlite3.Error as error:
        raise BackupError(f"{path}: cannot be read ({type(error).__name__}); is it locked, or the disk full?") from None


def _files(home: Path) -> Iterator[Path]:
    for name in FILES:
        path = home / name
        inside = (file for file in path.rglob("*") if file.is_file() and file.suffix != ".unfinished")
        yield from (path,) if path.is_file() else sorted(inside)


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _private(folder: Path) -> None:
    """Patients' data and keys are their owner's alone; nobody could enter the folder until now."""
    for path in folder.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)


def _described(path: Path) -> _File:
    with path.open("rb") as file:
        return _File(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


def _move_registry(making: Path, old: Path, new: Path) -> None:
    """MLflow names files by absolute URIs: wherever one begins with the old home, it begins with the new one."""
    before, after = f"{old.as_uri()}/", f"{new.as_uri()}/"
    for model in (making / "mlartifacts").rglob("MLmodel"):
        model.write_text(model.read_text().replace(before, after))
    if not (making / "mlflow.db").exists():
        return
    with closing(sqlite3.connect(making / "mlflow.db")) as connection, connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for _, column, kind, *_ in connection.execute(f'PRAGMA table_info("{table}")').fetchall():
                if "CHAR" in kind.upper() or "TEXT" in kind.upper():
                    connection.execute(
                        f'UPDATE "{table}" SET "{column}" = ? || substr("{column}", ?) '  # noqa: S608 - names of the schema
                        f'WHERE substr("{column}", 1, ?) = ?',
                        (after, len(before) + 1, len(before), before),
                    )
