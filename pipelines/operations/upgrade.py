"""Upgrade a home to this version of Vigil, or list beforehand what an upgrade would change.

``HOME/version.json`` holds the version that used the home last.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed
from typing import Final

from vigil.features.errors import VigilError
from vigil.features.pseudonyms import CHECK_FILE, KEY_FILE, open_pseudonyms
from vigil.pipelines.home import Home
from vigil.pipelines.results import replace_json
from vigil.serving.identity import identities
from vigil.serving.records import connection_tables, journal, prediction_log, ward_state
from vigil.serving.records.database import Schema, open_database, pending_migrations

FILE: Final = "version.json"
SCHEMAS: Final = (ward_state.SCHEMA, prediction_log.SCHEMA, journal.SCHEMA, identities.SCHEMA, connection_tables.SCHEMA)


class NewerHomeError(VigilError):
    """A home that a later version has used, which this version may not understand."""


@dataclass(frozen=True)
class Upgrade:
    """The difference between a home and this version.

    Attributes:
        made_by: the version that used the home last; None: the home does not say.
        version: this one.
        changes: what an upgrade changes, in words.
    """

    made_by: str | None
    version: str
    changes: tuple[str, ...]

    def summary(self) -> str:
        """Return the versions and the changes in words, a change a line."""
        made_by = f"used by version {self.made_by}" if self.made_by else "used by a version that left no note of itself"
        if not self.changes:
            return f"{made_by}; this is {self.version}; no upgrade is needed"
        return "\n".join([f"{made_by}; this is {self.version}; the upgrade:", *(f"  {change}" for change in self.changes)])


def plan_upgrade(home: Home) -> Upgrade:
    """Return what an upgrade would change, without changing anything.

    Raises:
        NewerHomeError: a later version has used the home.
        VigilError: there is no home, or a file of it cannot be used.
    """
    if not home.path.is_dir():
        raise VigilError(f"--home {home.path}: not there; expected a home that vigil run or vigil serve has made")
    version, made_by = installed("vigil"), _made_by(home)
    if made_by is not None and _release(made_by) > _release(version):
        raise NewerHomeError(
            f"--home {home.path}: used by version {made_by}, and this is {version}; install that version or a later one, or "
            "restore a backup of before"
        )
    changes = [change for schema in SCHEMAS for change in pending_migrations(home.path, schema)]
    if home.features.is_former:
        changes.append("features and feast: call the join key subject_id")
    if (home.path / KEY_FILE).exists() and not (home.path / CHECK_FILE).exists():
        changes.append(f"{CHECK_FILE}: keep a check value of the key")
    if made_by != version:
        changes.append(f"{FILE}: say that version {version} used the home")
    return Upgrade(made_by, version, tuple(changes))


def upgrade(home: Home) -> Upgrade:
    """Upgrade a home to this version; a home that is up to date is not changed.

    Returns:
        What was changed.

    Raises:
        NewerHomeError: a later version has used the home.
        VigilError: there is no home, or a file of it cannot be used.
    """
    planned = plan_upgrade(home)
    for schema in SCHEMAS:
        if any((home.path / name).exists() for name in database_files(schema)):
            open_database(home.path, schema).dispose()
    if home.features.is_former:
        home.features.migrate()
    if (home.path / KEY_FILE).exists():
        open_pseudonyms(home.path)
    if planned.made_by != planned.version:
        content = {"version": planned.version, "since": datetime.now(UTC).isoformat(timespec="seconds")}
        try:
            replace_json(home.path / FILE, content)
        except OSError as error:
            raise VigilError(
                f"--home {home.path}: cannot be written ({error.strerror}); expected a folder that this user may write, on a "
                "disk with room"
            ) from None
    return planned


def database_files(schema: Schema) -> tuple[str, ...]:
    """Return the name of a database's file, and the name that earlier versions gave it."""
    return (schema.file, schema.former_file) if schema.former_file else (schema.file,)


def _made_by(home: Home) -> str | None:
    path = home.path / FILE
    if not path.exists():
        return None
    try:
        version = str(json.loads(path.read_text())["version"])
        _release(version)
    except (OSError, ValueError, KeyError, TypeError):
        raise VigilError(f"{path}: cannot be read; expected the version that used the home; restore it, or remove it") from None
    return version


def _release(version: str) -> tuple[int, ...]:
    """Return a version as numbers that can be compared.

    >>> _release("0.10.2") > _release("0.9.0")
    True
    """
    return tuple(int(part) for part in version.split(".")[:3])
