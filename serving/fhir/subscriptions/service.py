"""What clients do with their subscriptions: create, read, change, delete, and ask what they have been told."""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.outcomes import FhirError
from vigil.serving.fhir.settings import FhirSettingsFile
from vigil.serving.fhir.subscriptions.header import seal_header
from vigil.serving.fhir.subscriptions.notifications import (
    NotificationType,
    Told,
    notification,
    status_bundle,
    status_parameters,
)
from vigil.serving.fhir.subscriptions.resource import read_subscription, shown_status, to_resource
from vigil.serving.fhir.subscriptions.telling import Telling
from vigil.serving.fhir.subscriptions.topics import TOPICS
from vigil.serving.records.subscriptions import Content, Subscription, Subscriptions, Wanted
from vigil.serving.records.timestamps import microsecond, present

MOST: Final = 20  # subscriptions of a client that are not off
MOST_EVENTS: Final = 1_000  # of an answer to $events


@dataclass(frozen=True)
class SubscriptionService:
    """The subscriptions of one home, as their owners see them.

    Attributes:
        subscriptions: what is stored.
        telling: makes what they are told.
        settings: which endpoints are allowed.
        secret: encrypts headers.
    """

    subscriptions: Subscriptions
    telling: Telling
    settings: FhirSettingsFile
    secret: bytes

    @property
    def base(self) -> str:
        """URL of ``/fhir`` as others reach it."""
        return self.telling.directory.base_url

    def create(self, resource: Mapping[str, Any], caller: Caller) -> Subscription:
        """Store a new subscription.

        Raises:
            FhirError: it cannot be used (422), or the caller may not have it (403).
        """
        wanted, status, header = self._read(resource, caller)
        now = microsecond(present())
        subscription = Subscription(
            **_fields(replace(wanted, sealed_header=seal_header(self.secret, header) if header else None)),
            id=str(uuid.uuid4()),
            client=caller.sub,
            updated_at=now,
            status=status,
            positions=self.telling.ward_state.last_events(),
        )
        if not self.subscriptions.add(subscription, MOST):
            raise FhirError(422, f"Subscription: expected at most {MOST} of a client that are not off; delete one")
        return subscription

    def update(self, identity: str, resource: Mapping[str, Any], caller: Caller, if_match: int | None) -> Subscription:
        """Store a new version of a subscription. Without ``header`` the one before stays, for the same endpoint only.

        Raises:
            FhirError: there is none of the caller (404), another version is the present one (412), or as :meth:`create`.
        """
        known = self.find(identity, caller)
        if if_match not in (None, known.version):
            raise FhirError(412, f"If-Match: expected the present version, {known.version}")
        wanted, status, header = self._read(resource, caller)
        if wanted.topic != known.topic:
            raise FhirError(
                422, "criteria: expected the topic as before; create another Subscription", ["Subscription.criteria"]
            )
        sealed = known.sealed_header if header is None and wanted.endpoint == known.endpoint else None
        if header:
            sealed = seal_header(self.secret, header)
        present_events = self.telling.ward_state.last_events()
        now = microsecond(present())
        renewed = self.subscriptions.renew(known, replace(wanted, sealed_header=sealed), status, now, present_events)
        if renewed is None:
            raise FhirError(412, "Subscription: was changed at the same time; read it again")
        return renewed

    def _read(self, resource: Mapping[str, Any], caller: Caller) -> tuple[Wanted, Any, list[str] | None]:
        wanted, status, header = read_subscription(
            resource, lambda key: self._find_patient(key, caller), self.settings.find_endpoint
        )
        topic = TOPICS[wanted.topic]
        owner = self.telling.find_owner(caller.sub)
        if owner is None:
            raise FhirError(
                403,
                "token: expected one of a client that is registered in HOME/clients.toml, since a subscription outlives tokens",
            )
        if not (topic.may_be_read(caller) and topic.may_be_read(owner)):
            raise FhirError(403, f"token: expected the scope system/{topic.resource}.rs, in the registration, too")
        for name, values in wanted.filters:
            if name == "ward" and not all(caller.can_see(ward) for ward in values):
                raise FhirError(403, "criteria: the token covers other wards only", ["Subscription.criteria.extension"])
        if status != "off" and wanted.ends_at is not None and wanted.ends_at <= microsecond(present()):
            raise FhirError(422, "end: expected a time in the future", ["Subscription.end"])
        return replace(wanted, wards=None if caller.wards is None else sorted(caller.wards)), status, header

    def _find_patient(self, key: str, caller: Caller) -> str | None:
        subject = self.telling.directory.find_subject(key)
        if subject is None:
            return None
        survivor = self.telling.journal.survivors_of([subject])[subject]
        ward = self.telling.journal.wards_of([survivor])[survivor]
        return survivor if caller.can_see(ward) else None

    def find(self, identity: str, caller: Caller) -> Subscription:
        """Return a subscription of a caller.

        Raises:
            FhirError: the caller has none of this id (404).
        """
        found = self.subscriptions.find(identity)
        if found is None or found.client != caller.sub:
            raise FhirError(404, "Subscription: none of this client has this id")
        return found

    def delete(self, identity: str, caller: Caller) -> None:
        """Delete a subscription of a caller; nothing more is sent. One that is not there is deleted already."""
        found = self.subscriptions.find(identity)
        if found is not None and found.client == caller.sub:
            self.subscriptions.delete(identity)

    def search(
        self, caller: Caller, ids: Collection[str] = (), statuses: Collection[str] = (), urls: Collection[str] = ()
    ) -> list[Subscription]:
        """Return the subscriptions of a caller that have one of some ids, statuses and endpoints, as far as any are named."""
        return [
            own
            for own in self.subscriptions.of_client(caller.sub)
            if (not ids or own.id in ids)
            and (not statuses or shown_status(own) in statuses)
            and (not urls or own.endpoint in urls)
        ]

    def resource(self, subscription: Subscription) -> dict[str, Any]:
        """Return a subscription as its owner reads it."""
        return to_resource(subscription, self.telling.directory.reference)

    def status(self, subscriptions: Sequence[Subscription]) -> dict[str, Any]:
        """Return the answer to ``$status``."""
        return status_bundle([self._status(own, "query-status", own.content, own.numbered) for own in subscriptions])

    def _status(
        self,
        subscription: Subscription,
        kind: NotificationType,
        content: Content,
        count: int,
        events: Sequence[Told] = (),
        error: str | None = None,
    ) -> dict[str, Any]:
        return status_parameters(subscription, kind, self.base, content=content, count=count, events=events, error=error)

    def events(
        self, subscription: Subscription, caller: Caller, since: int, until: int | None, content: Content | None
    ) -> dict[str, Any]:
        """Return the answer to ``$events``: at most :data:`MOST_EVENTS` events, from a number to a number, told or waiting.

        Raises:
            FhirError: the caller's registration does not allow it any more (403).
        """
        topic, content = TOPICS[subscription.topic], content or subscription.content
        reader = self.telling.reader(subscription)
        if reader is None or not topic.may_be_read(caller):
            raise FhirError(403, f"token: expected the scope system/{topic.resource}.rs, in the registration, too")
        if caller.wards is not None:
            reader = replace(reader, wards=frozenset(ward for ward in caller.wards if reader.can_see(ward)))
        last = subscription.numbered if until is None else min(until, subscription.numbered)
        numbered = self.subscriptions.events(subscription.id, since, last, MOST_EVENTS)
        told, missing = self.telling.tell(subscription, numbered, reader, content)
        reached = numbered[-1].number if len(numbered) == MOST_EVENTS else max(last, since - 1)
        gone = len(missing) + max(0, reached - max(since, 1) + 1) - len(numbered)
        error = f"{gone} of these events are not stored any more" if gone else None
        status = self._status(subscription, "query-event", content, subscription.numbered, told, error)
        return notification(status, subscription, self.base, told)


def _fields(wanted: Wanted) -> dict[str, Any]:
    return {name: getattr(wanted, name) for name in Wanted.__dataclass_fields__}
