"""What the first migration of every database does: complete the tables that homes had before there were revisions."""

import sqlalchemy as sa
from alembic import op

from vigil.features.errors import VigilError


def complete(metadata: sa.MetaData) -> None:
    """Create the tables and nullable columns that an earlier version did not have; their rows have no value.

    Raises:
        VigilError: a column is missing that must have a value.
    """
    connection = op.get_bind()
    existing = set(sa.inspect(connection).get_table_names())
    metadata.create_all(connection)
    for table in metadata.sorted_tables:
        if table.name not in existing:
            continue
        names = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
        for column in table.columns:
            if column.name in names:
                continue
            if not column.nullable:
                raise VigilError(
                    f"table {table.name} has no {column.name}: an early version wrote it; move the file away, or use another "
                    "--home"
                )
            op.add_column(table.name, sa.Column(column.name, column.type, nullable=True))
