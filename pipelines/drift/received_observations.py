"""The observations that the server of a home received, unusable and repeated ones included."""

from pathlib import Path

import pandas as pd

from vigil.models.monitoring.received import COLUMNS, merge_received
from vigil.serving.records.journal import SCHEMA, Journal
from vigil.serving.records.timestamps import microsecond


def received_by_server(home: Path, since: pd.Timestamp, until: pd.Timestamp) -> pd.DataFrame:
    """Return what the server received after a time, up to another.

    The columns are those of :data:`vigil.models.monitoring.received.COLUMNS`. A home without a server received nothing.
    Repeated observations were counted, not stored: each is a row without a value, as of the time it arrived.
    """
    if not (home / SCHEMA.file).exists():
        empty = pd.DataFrame(columns=list(COLUMNS))
        return merge_received(empty, empty)
    after, end = microsecond(since), microsecond(until)
    with Journal(home).snapshot() as journal:
        accepted = journal.observations(after, end)
        unused = [journal.quarantined(after, end), journal.repetitions(after, end)]
    return merge_received(accepted, pd.concat(unused, ignore_index=True))
