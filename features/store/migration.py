"""Migration of a feature store that an earlier version wrote: its join key was ``patient_id``, and is ``subject_id`` now.

Every step leaves what is done already as it is. So a migration that was interrupted is repeated.
"""

import contextlib
import sqlite3
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from vigil.features.store.feast_import import import_feast

REVISION: Final = "# Revision 2 of the stored features."  # a line of feature_store.yaml
_FORMER_KEY: Final = "patient_id"
_KEY: Final = "subject_id"
_KEY_VERSION: Final = 3  # entity_key_serialization_version of feature_store.yaml


def is_former(config: Path) -> bool:
    """Return whether a ``feature_store.yaml`` is of a store that has to be migrated."""
    return config.exists() and REVISION not in config.read_text()


def migrate_partitions(folder: Path) -> None:
    """Rename the join key in every Parquet file of the offline features; values and fingerprints stay."""
    for path in sorted(folder.glob("*/part-*.parquet")):
        if _FORMER_KEY not in pq.read_schema(path).names:
            continue
        table = pq.read_table(path)
        unfinished = path.with_suffix(".unfinished")
        renamed = table.rename_columns([_KEY if name == _FORMER_KEY else name for name in table.column_names])
        renamed = renamed.replace_schema_metadata(table.schema.metadata)
        pq.write_table(renamed, unfinished, compression="zstd", use_dictionary=[_KEY])
        unfinished.replace(path)


def migrate_online(database: Path) -> None:
    """Rename the join key in every row of the online store, in one transaction."""
    if not database.exists():
        return
    import_feast()
    with contextlib.closing(sqlite3.connect(database)) as online, online:
        online.create_function("renamed", 1, _rename_key, deterministic=True)
        for (table,) in online.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            online.execute(f'UPDATE "{table}" SET entity_key = renamed(entity_key)')  # noqa: S608 - our own table


def _rename_key(entity_key: bytes) -> bytes:
    from feast.infra.key_encoding_utils import deserialize_entity_key, serialize_entity_key

    key = deserialize_entity_key(entity_key, _KEY_VERSION)
    key.join_keys[:] = [_KEY if name == _FORMER_KEY else name for name in key.join_keys]
    return bytes(serialize_entity_key(key, _KEY_VERSION))
