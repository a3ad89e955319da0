"""The events of the wards, as they are written: each with the next number of its ward. Called inside a transaction."""

from collections.abc import Sequence

import sqlalchemy as sa

from vigil.serving.records.database import as_row, upsert
from vigil.serving.records.ward_rows import Event
from vigil.serving.records.ward_tables import EVENT_NUMBERS, EVENTS


def add_events(connection: sa.Connection, events: Sequence[Event]) -> None:
    """Insert events, each with the next number of its ward."""
    if not events:
        return
    wards = sorted({event.ward for event in events})
    last = dict.fromkeys(wards, 0)
    query = sa.select(EVENT_NUMBERS).where(EVENT_NUMBERS.c.ward.in_(wards)).with_for_update()
    last |= {row.ward: row.last for row in connection.execute(query)}
    rows = []
    for event in events:
        last[event.ward] += 1
        rows.append({**as_row(event), "number": last[event.ward]})
    connection.execute(EVENTS.insert(), rows)
    upsert(connection, EVENT_NUMBERS, [{"ward": ward, "last": number} for ward, number in last.items()])
