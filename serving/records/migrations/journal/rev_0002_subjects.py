"""name subjects, observations and registrations by these words."""

from typing import Final

from alembic import op

revision: Final = "0002"
down_revision: Final = "0001"

_TABLES: Final = {
    "patients": "registrations",
    "readings": "observations",
    "repeated": "repetitions",
    "time": "group_time",
    "dropped": "retentions",
}
_INDEXES: Final = {  # former name -> table, column
    "ix_patients_patient": ("registrations", "subject_id"),
    "ix_patients_recorded_at": ("registrations", "recorded_at"),
    "ix_readings_recorded_at": ("observations", "recorded_at"),
    "ix_repeated_recorded_at": ("repetitions", "recorded_at"),
}


def upgrade() -> None:
    for former, present in _TABLES.items():
        op.rename_table(former, present)
    for table in ("registrations", "observations", "quarantine", "repetitions", "latest"):
        op.execute(f"ALTER TABLE {table} RENAME COLUMN patient TO subject_id")
    op.execute("ALTER TABLE quarantine RENAME COLUMN reading TO observation")
    op.execute("ALTER TABLE retentions RENAME COLUMN readings TO observations")
    for former, (table, column) in _INDEXES.items():
        op.drop_index(former, table)
        op.create_index(f"ix_{table}_{column}", table, [column])
