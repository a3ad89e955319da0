"""Restore a home from a backup, at any path. Every byte of the backup is checked first."""

import hmac
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import Any

from vigil.pipelines.home import Home
from vigil.pipelines.operations.backup import (
    MANIFEST,
    SIGNATURE,
    STORE_CONFIGURATION,
    BackupError,
    FileRecord,
    Manifest,
    describe_file,
    make_private,
    read_backup_key,
    require_empty_folder,
    sign,
    with_folder,
)
from vigil.pipelines.progress import timed_step, track


def restore(source: Path, home: Home, key: Path | None = None) -> Manifest:
    """Make a home from a backup. Absolute paths in it become those of the new home.

    Args:
        source: folder of the backup.
        home: a new or empty folder.
        key: ``backup.key`` of the home that was backed up. None: trust the backup without a check of its signature. A changed
            backup could run programs, so trust it as you would trust a program.

    Raises:
        BackupError: a file of the backup is missing or has changed, the signature is not of the key, or the home is not empty.
    """
    require_empty_folder("--home", home.path)
    manifest = verify_backup(source, key)
    path = home.path.resolve()
    unfinished = path.with_name(f"{path.name}.unfinished")
    if unfinished.exists():
        raise BackupError(f"{unfinished}: left by a restoration that was interrupted; expected no such folder; remove it first")
    unfinished.mkdir(mode=0o700, parents=True)
    for name in track(manifest.files, "restore", len(manifest.files)):
        if name != STORE_CONFIGURATION:  # it holds absolute paths, so Feast writes it for the new home below
            shutil.copyfile(source / name, with_folder(unfinished / name))
    make_private(unfinished)
    move_registry(path, Path(manifest.home), folder=unfinished)
    unfinished.replace(path)
    if STORE_CONFIGURATION in manifest.files:
        with timed_step("apply to Feast"):
            home.features.apply()
    return manifest


def verify_backup(source: Path, key: Path | None = None) -> Manifest:
    """Check that a backup is as it was taken, and return its manifest.

    Args:
        source: folder of the backup.
        key: as for :func:`restore`.

    Raises:
        BackupError: the manifest is missing, malformed or not signed with the key, or a file is missing or has changed. The
            error names the first such file.
    """
    manifest = _read_manifest(source / MANIFEST)
    if key is not None:
        _check_signature(source, key)
    for name, expected in track(manifest.files.items(), "verify", len(manifest.files)):
        path = source / name
        if not path.resolve().is_relative_to(source.resolve()):
            raise BackupError(f"{path}: leads out of the backup; expected files, not links; use another backup")
        if not path.is_file():
            raise BackupError(f"{path}: missing; expected {expected.size:,} bytes as {MANIFEST} says; use another backup")
        if describe_file(path) != expected:
            raise BackupError(
                f"{path}: has changed since the backup was taken; expected the sha256 that {MANIFEST} says; use another backup"
            )
    return manifest


def move_registry(home_path: Path, former_path: Path, *, folder: Path | None = None) -> None:
    """Rewrite MLflow's absolute URIs of a home that was moved: those below its former path become those below its path.

    Args:
        home_path: absolute path of the home.
        former_path: absolute path that the home had before.
        folder: where the files of the home are now, if it is not yet at its path.
    """
    folder = folder or home_path
    former, present = f"{former_path.as_uri()}/", f"{home_path.as_uri()}/"
    for model in (folder / "mlartifacts").rglob("MLmodel"):
        model.write_text(model.read_text().replace(former, present))
    if not (folder / "mlflow.db").exists():
        return
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection, connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for _, column, kind, *_ in connection.execute(f'PRAGMA table_info("{table}")').fetchall():
                if "CHAR" in kind.upper() or "TEXT" in kind.upper():
                    connection.execute(
                        f'UPDATE "{table}" SET "{column}" = ? || substr("{column}", ?) '  # noqa: S608 - names of the schema
                        f'WHERE substr("{column}", 1, ?) = ?',
                        (present, len(former) + 1, len(former), former),
                    )


def _read_manifest(path: Path) -> Manifest:
    if not path.is_file():
        raise BackupError(f"{path}: missing; expected the folder of a complete backup (vigil backup --to DIR)")
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        manifest = Manifest(**{**content, "files": {name: FileRecord(**file) for name, file in content["files"].items()}})
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BackupError(f"{path}: not a manifest of this version; use another backup") from None
    for name in manifest.files:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise BackupError(f"{path}: names a file outside of the backup; use another backup")
    return manifest


def _check_signature(source: Path, key: Path) -> None:
    """Check that the owner of the key wrote the manifest. Checksums do not show that: anyone can compute them."""
    signature = source / SIGNATURE
    expected = sign(source / MANIFEST, read_backup_key(key))
    if not signature.is_file() or not hmac.compare_digest(signature.read_text().strip(), expected):
        raise BackupError(
            f"{source / MANIFEST}: not signed with {key}; it was changed, is of another home, or of an earlier version; use "
            "another backup, or trust it as you would a program: --trust"
        )
