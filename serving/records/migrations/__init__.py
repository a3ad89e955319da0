"""Migrations of the databases of a home, one folder a database, run by Alembic inside the caller's transaction.

A migration is written once and never changed: it names tables and columns as they were then, not as the code has them today.
"""

from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

_FOLDER: Final = Path(__file__).parent


def upgrade(connection: sa.Connection, database: str) -> None:
    """Run the migrations of a database that have not been run yet."""
    command.upgrade(_config(database, connection), "head")


def titles(database: str, revision: str) -> list[str]:
    """Return the title of each migration after a revision, in order."""
    scripts = ScriptDirectory.from_config(_config(database))
    later = [script for script in scripts.walk_revisions() if revision == "base" or script.revision > revision]
    return [str(script.doc) for script in reversed(later)]


def head(database: str) -> str | None:
    """Return the latest revision of a database."""
    return ScriptDirectory.from_config(_config(database)).get_current_head()


def _config(database: str, connection: sa.Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(_FOLDER / database).replace("%", "%%"))
    return config
