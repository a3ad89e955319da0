"""A home carries the version that made it; a later version brings it up to date, and can say beforehand what it would do."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Final

from features.errors import VigilError
from features.pseudonyms import CHECK_FILE, KEY_FILE, open_pseudonyms
from pipelines.results import replace_json
from serving.identity import identities
from serving.records import journal, prediction_log, ward_state
from serving.records.database import open_database, pending

FILE: Final = "version.json"
_DATABASES: Final = {
    ward_state.FILE: ward_state.METADATA,
    prediction_log.FILE: prediction_log.METADATA,
    journal.FILE: journal.METADATA,
    identities.FILE: identities.METADATA,
}


class NewerHomeError(VigilError):
    """A later version made the home; this one may not understand it."""


@dataclass(frozen=True)
class Upgrade:
    """What is between a home and this version.

    Attributes:
        made_by: the version that used the home last; None: one that did not say so.
        version: this one.
        changes: what is, or was, to be done, in words.
    """

    made_by: str | None
    version: str
    changes: tuple[str, ...]

    def sentence(self) -> str:
        """Say it in words."""
        made_by = f"made by version {self.made_by}" if self.made_by else "made by a version that did not say so"
        if not self.changes:
            return f"{made_by}; this is {self.version}; nothing is to be done"
        return "\n".join([f"{made_by}; this is {self.version}; to be done:", *(f"  {change}" for change in self.changes)])


def check(home: Path) -> Upgrade:
    """What bringing a home up to date would do; nothing is changed.

    Raises:
        NewerHomeError: a later version made it.
        VigilError: there is no home, or a file of it cannot be used.
    """
    if not home.is_dir():
        raise VigilError(f"--home {home}: not there; expected a home that vigil run or vigil serve has made")
    version, made_by = installed("vigil"), _made_by(home)
    if made_by is not None and _in_order(made_by) > _in_order(version):
        raise NewerHomeError(
            f"--home {home}: used by version {made_by}, and this is {version}; install that version or a later one, or restore "
            "a backup of before"
        )
    there = [(home / name, metadata) for name, metadata in _DATABASES.items() if (home / name).exists()]
    changes = [change for path, metadata in there for change in pending(path, metadata)]
    if (home / KEY_FILE).exists() and not (home / CHECK_FILE).exists():
        changes.append(f"{CHECK_FILE}: keep a check value of the key")
    if made_by != version:
        changes.append(f"{FILE}: say that version {version} used the home")
    return Upgrade(made_by, version, tuple(changes))


def upgrade(home: Path) -> Upgrade:
    """Bring a home up to date; what has been done already is left as it is.

    Raises:
        NewerHomeError: a later version made it.
        VigilError: there is no home, or a file of it cannot be used.
    """
    found = check(home)
    for name, metadata in _DATABASES.items():
        if (home / name).exists():
            open_database(home / name, metadata).dispose()
    if (home / KEY_FILE).exists():
        open_pseudonyms(home)
    if found.made_by != found.version:
        said = {"version": found.version, "since": datetime.now(UTC).isoformat(timespec="seconds")}
        try:
            replace_json(home / FILE, said)
        except OSError as error:
            raise VigilError(
                f"--home {home}: cannot be written ({error.strerror}); make room, or see whose the folder is"
            ) from None
    return found


def _made_by(home: Path) -> str | None:
    path = home / FILE
    if not path.exists():
        return None
    try:
        said = str(json.loads(path.read_text())["version"])
        _in_order(said)
    except (OSError, ValueError, KeyError, TypeError):
        raise VigilError(f"{path}: cannot be read; expected the version that used the home; restore it, or remove it") from None
    return said


def _in_order(version: str) -> tuple[int, ...]:
    """A version such as 0.1.0 as numbers, which can be compared."""
    return tuple(int(part) for part in version.split(".")[:3])
