"""Gives each event that a subscription is about its number in it, before anything is sent.

So an event has the same number however often it is sent, and after every restart. What was deleted before it could be numbered
takes one number that stands for it: a gap that the client sees.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from vigil.serving.fhir.subscriptions.telling import Telling
from vigil.serving.fhir.subscriptions.topics import TOPICS
from vigil.serving.records.subscriptions import NumberedForSubscription, Subscription, Subscriptions
from vigil.serving.records.timestamps import microsecond, present
from vigil.serving.records.ward_rows import NumberedEvent

_MAX_EVENTS: Final = 500  # read at a time


class Numbering:
    """Numbers the events of the wards for every subscription of one home. Only one may run at a time."""

    def __init__(self, subscriptions: Subscriptions, telling: Telling) -> None:
        self._subscriptions, self._telling = subscriptions, telling

    def step(self, live: Iterable[Subscription]) -> bool:
        """Number what is new for some subscriptions; return whether there may be more."""
        last = self._telling.ward_state.last_events()
        read: dict[frozenset[tuple[str, int]], list[NumberedEvent]] = {}  # most subscriptions are at the same position
        has_more = False
        for subscription in live:
            moved = {
                ward: subscription.positions.get(ward, 0) for ward in last if subscription.positions.get(ward, 0) != last[ward]
            }
            if not moved:
                continue
            key = frozenset(moved.items())
            if key not in read:
                read[key] = self._telling.ward_state.events_after(moved, _MAX_EVENTS)
            self._number(subscription, moved, last, read[key])
            has_more = has_more or len(read[key]) == _MAX_EVENTS
        return has_more

    def _number(
        self, subscription: Subscription, moved: Mapping[str, int], last: Mapping[str, int], events: list[NumberedEvent]
    ) -> None:
        reader = self._telling.reader(subscription)
        is_whole = len(events) < _MAX_EVENTS
        reached = dict(moved)
        filters = self._filters(subscription)
        number, numbered = subscription.numbered, []
        for event in events:
            is_gap = event.number != reached[event.ward] + 1
            reached[event.ward] = event.number
            if reader is None or not reader.can_see(event.ward) or not _is_of_ward(event.ward, filters):
                continue
            if is_gap:
                number += 1
                numbered.append(NumberedForSubscription(number, None, None, event.at))
            if TOPICS[subscription.topic].is_about(event) and _is_of_patient(str(event.subject_id), filters):
                number += 1
                numbered.append(NumberedForSubscription(number, event.ward, event.number, event.at))
        if is_whole:
            for ward in moved:
                # Its newest events are gone, or the home was restored from a backup, and has other events by these numbers.
                if not (reached[ward] < last[ward] or last[ward] < moved[ward]):
                    continue
                reached[ward] = last[ward]
                if reader is not None and reader.can_see(ward) and _is_of_ward(ward, filters):
                    number += 1
                    numbered.append(NumberedForSubscription(number, None, None, microsecond(present())))
        changes = {"positions": {**subscription.positions, **reached}, "numbered": number}
        self._subscriptions.number(subscription, numbered, changes)

    def _filters(self, subscription: Subscription) -> list[tuple[str, frozenset[str]]]:
        """Return the filters; a patient who was merged stands for the survivor, too."""
        filters = []
        for name, values in subscription.filters:
            also = self._telling.journal.survivors_of(list(values)).values() if name == "patient" else ()
            filters.append((name, frozenset((*values, *also))))
        return filters


def _is_of_ward(ward: str, filters: Iterable[tuple[str, frozenset[str]]]) -> bool:
    return all(ward in values for name, values in filters if name == "ward")


def _is_of_patient(subject: str, filters: Iterable[tuple[str, frozenset[str]]]) -> bool:
    return all(subject in values for name, values in filters if name == "patient")
