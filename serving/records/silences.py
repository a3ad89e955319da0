"""Signals that stopped and sources that fell silent, and what gateways report of their devices: tables of the ward state.

What a look found is committed with its events in one transaction. It reads there what is known already: so each event comes
once, whatever process raises it, and a restart repeats none.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pandas as pd
import sqlalchemy as sa

from vigil.features.derived import SCORE_CARRY_HOURS
from vigil.features.kernel.plan import HOUR_US
from vigil.serving.records.database import as_row, delete_in_steps, in_chunks, reading, upsert, with_retries, writing
from vigil.serving.records.event_log import add_events
from vigil.serving.records.silence_rows import DeviceReport, Silence, SilenceChanges
from vigil.serving.records.timestamps import microsecond
from vigil.serving.records.ward_rows import Event, EventKind
from vigil.serving.records.ward_tables import DEVICE_REPORTS, SILENCES

_MOST_REPORTS: Final = 5_000  # that are not settled
_IN_ORDER: Final = sa.select(SILENCES).order_by(SILENCES.c.raised_at, SILENCES.c.silence_id)
_OPEN: Final = _IN_ORDER.where(SILENCES.c.resolved_at.is_(None))
_OF_SOME: Final = _IN_ORDER.where(SILENCES.c.subject_id.in_(sa.bindparam("some", expanding=True)))  # made with every risk


class Silences:
    """The silences of one home. The rescorer writes them; the API reads them, and writes what gateways report."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def open(self) -> list[Silence]:
        """Return the silences that have not ended."""
        with reading(self._engine) as connection:
            return _read(connection, _OPEN)

    def silent_sources(self) -> list[Silence]:
        """Return the silences of whole sources that have not ended."""
        return [silence for silence in self.open() if silence.subject_id is None]

    def commit(self, changes: SilenceChanges, wards: Mapping[str, str], at: int) -> list[Event]:
        """Commit what a look found, and return the events that followers are told: of what was not committed before.

        Args:
            changes: what was found.
            wards: where subjects are now, who are told of what has returned.
            at: the present, microseconds.
        """
        with writing(self._engine) as connection:
            stand = {silence.silence_id: silence for silence in _read(connection, _OPEN)}
            over = [own for own in (*changes.ended, *changes.returned) if own.silence_id in stand]
            if over:
                ids = [own.silence_id for own in over]
                connection.execute(SILENCES.update().where(SILENCES.c.silence_id.in_(ids)).values(resolved_at=at))
            taken = {own.place for own in stand.values() if own not in over}
            new = [own for own in changes.raised if own.place not in taken]
            if new:
                connection.execute(SILENCES.insert(), [as_row(own) for own in new])
            events = [_returned(own, wards, at) for own in changes.returned if own in over]
            events += [_raised(own, at) for own in new]
            add_events(connection, events)
            for report in changes.settled:
                is_same = (DEVICE_REPORTS.c.at == report.at) & (DEVICE_REPORTS.c.wards == _text(report.wards))
                same = is_same & (DEVICE_REPORTS.c.device_id == (report.device_id or ""))
                connection.execute(DEVICE_REPORTS.delete().where(DEVICE_REPORTS.c.source == report.source, same))
        return events

    def stopped(self, times: Mapping[str, int]) -> dict[str, tuple[Silence, ...]]:
        """Return the signals that had stopped as of a time of each subject (microseconds); only of subjects with any.

        A signal that was not sent for a day is not monitored any more: it has not stopped then.
        """
        subjects, found = list(times), dict[str, list[Silence]]()
        with reading(self._engine) as connection:
            for some in in_chunks(subjects):
                for silence in _read(connection, _OF_SOME, some=list(some)):
                    assert silence.subject_id is not None  # it is one of those asked for
                    time = times[silence.subject_id]
                    is_over = silence.resolved_at is not None and silence.resolved_at <= time
                    if silence.raised_at <= time < silence.since + SCORE_CARRY_HOURS * HOUR_US and not is_over:
                        found.setdefault(silence.subject_id, []).append(silence)
        return {subject: tuple(sorted(own, key=lambda one: one.signal or "")) for subject, own in found.items()}

    def report(self, report: DeviceReport, *, by: str) -> None:
        """Store whether a device, or a gateway, is connected, and who said so. Of those who see the same wards the last counts.

        The oldest of too many are dropped: no caller may fill the table with devices that do not exist.
        """
        row = {"source": report.source, "device_id": report.device_id or "", "wards": _text(report.wards)}
        newest = sa.select(DEVICE_REPORTS.c.at).order_by(DEVICE_REPORTS.c.at.desc()).offset(_MOST_REPORTS).limit(1)
        with writing(self._engine) as connection:
            upsert(connection, DEVICE_REPORTS, [row | {"status": report.status, "at": report.at, "by": by}])
            if (last := connection.execute(newest).scalar()) is not None:
                connection.execute(DEVICE_REPORTS.delete().where(DEVICE_REPORTS.c.at <= last))

    def reports(self) -> list[DeviceReport]:
        """Return the reports that are not settled."""
        with reading(self._engine) as connection:
            rows = connection.execute(sa.select(DEVICE_REPORTS).order_by(DEVICE_REPORTS.c.at)).all()
        return [
            DeviceReport(
                row.source, row.device_id or None, tuple(json.loads(row.wards)) if row.wards else None, row.status, row.at
            )
            for row in rows
        ]

    def delete_before(self, time: pd.Timestamp) -> int:
        """Delete silences that ended before a time, and reports made before it; return how many silences."""
        at = microsecond(time)

        def delete_reports() -> None:
            with writing(self._engine) as connection:
                connection.execute(DEVICE_REPORTS.delete().where(DEVICE_REPORTS.c.at < at))

        with_retries(delete_reports)
        return delete_in_steps(self._engine, SILENCES, SILENCES.c.resolved_at < at)


def _read(connection: sa.Connection, query: "sa.Select[Any]", **values: Any) -> list[Silence]:
    return [Silence(**row) for row in connection.execute(query, values).mappings()]


def _raised(silence: Silence, at: int) -> Event:
    kind: EventKind = "signal_stopped" if silence.subject_id else "source_silent"
    return Event(silence.ward, silence.subject_id, kind, at, silence.event_fields())


def _returned(silence: Silence, wards: Mapping[str, str], at: int) -> Event:
    kind: EventKind = "signal_returned" if silence.subject_id else "source_returned"
    ward = wards.get(silence.subject_id, silence.ward) if silence.subject_id else silence.ward
    return Event(ward, silence.subject_id, kind, at, silence.event_fields())


def _text(wards: Sequence[str] | None) -> str:
    """Return wards as a part of a key; empty: all wards."""
    return "" if wards is None else json.dumps(sorted(wards))
