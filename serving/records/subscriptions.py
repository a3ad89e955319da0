"""The subscriptions of FHIR clients: what each wants to be told, and how far it has been told.

A client writes what it wants (:class:`Wanted`), which makes a new version. Only the deliverer writes progress, and only for the
version that it was made for.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal

import sqlalchemy as sa

from vigil.serving.records.connection_tables import SUBSCRIPTION_EVENTS, SUBSCRIPTIONS
from vigil.serving.records.database import as_row, delete_in_steps, reading, writing
from vigil.serving.records.lookups import ChangeWatch

Content = Literal["empty", "id-only", "full-resource"]
Status = Literal["requested", "active", "error", "off"]
Filters = Sequence[tuple[str, Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client wants to be told, and where.

    Attributes:
        topic: its canonical URL.
        filters: each is a name, ``patient`` or ``ward``, and values of which one must hold. Patients are subject keys.
        wards: that the client might see when it wrote this; None: all.
        reason: as the client wrote it.
        ends_at: microseconds; None: never.
        endpoint: URL.
        sealed_header: encrypted lines of the header; None: there are none.
        content: how much a notification holds.
        heartbeat: seconds of silence after which the endpoint is told that all is well; None: never.
        timeout: seconds to wait for an answer; None: ours.
        max_count: most events of a notification; None: ours.
    """

    topic: str
    filters: Filters
    wards: Sequence[str] | None
    reason: str
    ends_at: int | None
    endpoint: str
    sealed_header: bytes | None
    content: Content
    heartbeat: int | None = None
    timeout: int | None = None
    max_count: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription(Wanted):
    """One subscription.

    Attributes:
        id: of the resource.
        client: who owns it.
        version: of what the client wrote, from 1.
        updated_at: when the client wrote it, microseconds.
        status: ``off`` is the client's word, or :attr:`Wanted.ends_at` has passed; the others are ours.
        error: why the last attempt failed.
        confirmed: whether the endpoint has answered the handshake of this version.
        positions: number of the last event that was looked at, by ward.
        numbered: events so far.
        delivered: the last event that the endpoint took.
        lost: events that were deleted before the endpoint took them, since the client wrote last.
    """

    id: str
    client: str
    version: int = 1
    updated_at: int
    status: Status
    error: str | None = None
    confirmed: bool = False
    positions: Mapping[str, int]
    numbered: int = 0
    delivered: int = 0
    lost: int = 0

    @property
    def waiting(self) -> int:
        """How many events wait for the endpoint."""
        return self.numbered - self.delivered


@dataclass(frozen=True, slots=True)
class NumberedForSubscription:
    """An event by its number in a subscription. Without a ward, events were deleted before they had a number."""

    number: int
    ward: str | None
    ward_number: int | None
    at: int


_WANTED: Final = tuple(field.name for field in fields(Wanted))
_COLUMNS: Final = tuple(field.name for field in fields(NumberedForSubscription))


class Subscriptions:
    """The subscriptions of one home."""

    def __init__(self, engine: sa.Engine) -> None:
        """Use the database of the connections."""
        self._engine = engine
        self._watch = ChangeWatch(engine)
        self._lock = threading.Lock()  # SQLite lets writers sleep that come at once

    def has_changed(self) -> bool:
        """Return whether the database was written since the last call. For one thread at a time."""
        return self._watch.has_changed()

    def add(self, subscription: Subscription, most: int) -> bool:
        """Store a new subscription; return False if the client has ``most`` of them already that are not off.

        Raises:
            DatabaseError: nothing was stored.
        """
        own = (SUBSCRIPTIONS.c.client == subscription.client) & (SUBSCRIPTIONS.c.status != "off")
        with self._lock, writing(self._engine) as connection:
            if connection.execute(sa.select(sa.func.count()).where(own)).scalar_one() >= most:
                return False
            connection.execute(SUBSCRIPTIONS.insert(), as_row(subscription))
        return True

    def find(self, identity: str) -> Subscription | None:
        """Return a subscription; None: there is none."""
        return next(iter(self._select(SUBSCRIPTIONS.c.id == identity)), None)

    def of_client(self, client: str) -> list[Subscription]:
        """Return the subscriptions of a client, the one it wrote last at the end."""
        return self._select(SUBSCRIPTIONS.c.client == client)

    def live(self) -> list[Subscription]:
        """Return the subscriptions that are not off."""
        return self._select(SUBSCRIPTIONS.c.status != "off")

    def _select(self, condition: "sa.ColumnElement[bool]") -> list[Subscription]:
        query = SUBSCRIPTIONS.select().where(condition).order_by(SUBSCRIPTIONS.c.updated_at, SUBSCRIPTIONS.c.id)
        with reading(self._engine) as connection:
            return [Subscription(**row) for row in connection.execute(query).mappings()]

    def renew(
        self, known: Subscription, wanted: Wanted, status: Status, at: int, positions: Mapping[str, int]
    ) -> Subscription | None:
        """Store what a client wrote over a subscription that it knows; return what is stored, or None if it has changed since.

        The endpoint has to answer a handshake again, and losses that were told before are forgotten.

        Args:
            known: the version that is written over.
            wanted: what the client wants now.
            status: ``requested`` or ``off``.
            at: the present, microseconds.
            positions: where the events begin, if it was off.

        Raises:
            DatabaseError: nothing was stored.
        """
        changes = {name: getattr(wanted, name) for name in _WANTED}
        changes |= {"version": known.version + 1, "updated_at": at, "status": status}
        changes |= {"error": None, "confirmed": False, "lost": 0}
        if known.status == "off":
            changes["positions"] = dict(positions)
        with self._lock, writing(self._engine) as connection:
            is_present = connection.execute(_of(known).values(changes)).rowcount == 1
        return replace(known, **changes) if is_present else None

    def delete(self, identity: str) -> None:
        """Delete a subscription, and the numbers of its events."""
        with self._lock, writing(self._engine) as connection:
            connection.execute(SUBSCRIPTIONS.delete().where(SUBSCRIPTIONS.c.id == identity))
            connection.execute(SUBSCRIPTION_EVENTS.delete().where(SUBSCRIPTION_EVENTS.c.subscription_id == identity))

    def number(self, subscription: Subscription, events: Sequence[NumberedForSubscription], changes: Mapping[str, Any]) -> bool:
        """Store the numbers of new events of a subscription, with its new positions; return False if it has changed since.

        Raises:
            DatabaseError: nothing was stored.
        """
        with self._lock, writing(self._engine) as connection:
            present = _of(subscription).where(SUBSCRIPTIONS.c.numbered == subscription.numbered)
            if not connection.execute(present.values(dict(changes))).rowcount:
                return False
            if events:
                rows = [{"subscription_id": subscription.id, **as_row(event)} for event in events]
                connection.execute(SUBSCRIPTION_EVENTS.insert(), rows)
        return True

    def set_state(self, subscription: Subscription, **changes: Any) -> bool:
        """Store progress; return False if it is off, or was written, deleted or delivered meanwhile.

        Raises:
            DatabaseError: nothing was stored.
        """
        with self._lock, writing(self._engine) as connection:
            live = _of(subscription).where(SUBSCRIPTIONS.c.status != "off", SUBSCRIPTIONS.c.delivered == subscription.delivered)
            return connection.execute(live.values(changes)).rowcount == 1

    def events(self, identity: str, first: int, last: int, limit: int) -> list[NumberedForSubscription]:
        """Return the events of a subscription from a number to a number, in order."""
        columns = [SUBSCRIPTION_EVENTS.c[name] for name in _COLUMNS]
        number = SUBSCRIPTION_EVENTS.c.number
        query = sa.select(*columns).where(SUBSCRIPTION_EVENTS.c.subscription_id == identity, number.between(first, last))
        with reading(self._engine) as connection:
            return [NumberedForSubscription(*row) for row in connection.execute(query.order_by(number).limit(limit))]

    def delete_before(self, time: int) -> dict[str, int]:
        """Delete numbers of events before a time (microseconds), and subscriptions that were off before; return how many."""
        old = (SUBSCRIPTIONS.c.status == "off") & (SUBSCRIPTIONS.c.updated_at < time)
        return {
            SUBSCRIPTION_EVENTS.name: delete_in_steps(self._engine, SUBSCRIPTION_EVENTS, SUBSCRIPTION_EVENTS.c.at < time),
            SUBSCRIPTIONS.name: delete_in_steps(self._engine, SUBSCRIPTIONS, old),
        }


def _of(subscription: Subscription) -> sa.Update:
    """Return an update of a subscription, as long as its version is the present one."""
    return SUBSCRIPTIONS.update().where(SUBSCRIPTIONS.c.id == subscription.id, SUBSCRIPTIONS.c.version == subscription.version)
