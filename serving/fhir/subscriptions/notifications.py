"""Notifications: bundles whose first entry says what they are about (profile backport-subscription-status-r4)."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from vigil.serving.fhir.subscriptions.resource import BACKPORT, shown_error, shown_status
from vigil.serving.fhir.times import write_instant
from vigil.serving.records.subscriptions import Content, Subscription
from vigil.serving.records.timestamps import instant, present

NotificationType = Literal["handshake", "heartbeat", "event-notification", "query-status", "query-event"]

STATUS_PROFILE: Final = f"{BACKPORT}/backport-subscription-status-r4"
_BUNDLE_PROFILE: Final = f"{BACKPORT}/backport-subscription-notification-r4"


@dataclass(frozen=True, slots=True)
class Told:
    """One event as a notification tells it.

    Attributes:
        number: in the subscription.
        at: when it happened, microseconds.
        focus: reference to what it is about.
        patient: reference to the Patient.
        resource: in the focus; None: it is not sent.
    """

    number: int
    at: int
    focus: str
    patient: str
    resource: dict[str, Any] | None = None


def status_parameters(
    subscription: Subscription,
    kind: NotificationType,
    base: str,
    *,
    content: Content,
    count: int,
    events: Sequence[Told] = (),
    error: str | None = None,
) -> dict[str, Any]:
    """Return the status of a subscription, as Parameters.

    Args:
        subscription: as it is stored.
        kind: of the notification.
        base: URL of ``/fhir``.
        content: how much it holds.
        count: events up to and with this notification.
        events: in order.
        error: what else is wrong.
    """
    parameters: list[dict[str, Any]] = [
        {"name": "subscription", "valueReference": {"reference": f"{base}/Subscription/{subscription.id}"}}
    ]
    if content != "empty":
        parameters.append({"name": "topic", "valueCanonical": subscription.topic})
    parameters += [
        {"name": "status", "valueCode": shown_status(subscription)},
        {"name": "type", "valueCode": kind},
        {"name": "events-since-subscription-start", "valueString": str(count)},
        *({"name": "notification-event", "part": _parts(event, content, base)} for event in events),
    ]
    texts = [text for text in (shown_error(subscription), error) if text]
    parameters += [{"name": "error", "valueCodeableConcept": {"text": text}} for text in texts]
    return {
        "resourceType": "Parameters",
        "id": str(uuid.uuid4()),
        "meta": {"profile": [STATUS_PROFILE]},
        "parameter": parameters,
    }


def _parts(event: Told, content: Content, base: str) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [
        {"name": "event-number", "valueString": str(event.number)},
        {"name": "timestamp", "valueInstant": write_instant(instant(event.at))},
    ]
    if content != "empty":
        parts.append({"name": "focus", "valueReference": {"reference": f"{base}/{event.focus}"}})
        parts.append({"name": "additional-context", "valueReference": {"reference": f"{base}/{event.patient}"}})
    return parts


def notification(status: dict[str, Any], subscription: Subscription, base: str, events: Sequence[Told] = ()) -> dict[str, Any]:
    """Return the bundle of a notification: its status, and each resource of its events once."""
    resources = {event.focus: event.resource for event in events if event.resource is not None}
    return {
        "resourceType": "Bundle",
        "id": str(uuid.uuid4()),
        "meta": {"profile": [_BUNDLE_PROFILE]},
        "type": "history",
        "timestamp": write_instant(present()),
        "entry": [
            {
                "fullUrl": f"urn:uuid:{status['id']}",
                "resource": status,
                "request": {"method": "GET", "url": f"{base}/Subscription/{subscription.id}/$status"},
                "response": {"status": "200"},
            },
            *(
                {
                    "fullUrl": f"{base}/{focus}",
                    "resource": resource,
                    "request": {"method": "PUT", "url": focus},
                    "response": {"status": "200"},
                }
                for focus, resource in resources.items()
            ),
        ],
    }


def status_bundle(statuses: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the answer to ``$status``."""
    entries = [{"fullUrl": f"urn:uuid:{status['id']}", "resource": status, "search": {"mode": "match"}} for status in statuses]
    bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset", "total": len(entries)}
    return bundle | ({"entry": entries} if entries else {})
