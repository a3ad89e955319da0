"""Subscription of FHIR R4 with the extensions of the Backport: what a client sends, and what it reads back.

What changes the meaning and is not understood is refused. The header is written only: it holds secrets.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, cast, get_args
from urllib.parse import parse_qsl, urlencode

from vigil.serving.fhir.outcomes import MEDIA_TYPE, FhirError
from vigil.serving.fhir.refusals import RefusedError
from vigil.serving.fhir.subscriptions.endpoints import EXPECTED, Endpoint
from vigil.serving.fhir.subscriptions.header import check_header
from vigil.serving.fhir.subscriptions.topics import TOPICS, Topic
from vigil.serving.fhir.times import read_instant, write_instant
from vigil.serving.records.subscriptions import Content, Status, Subscription, Wanted
from vigil.serving.records.timestamps import instant

BACKPORT: Final = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition"
PROFILE: Final = f"{BACKPORT}/backport-subscription"
LONGEST_TIMEOUT: Final = 60  # seconds
LONGEST_HEARTBEAT: Final = 86_400
MOST_EVENTS: Final = 100  # of a notification
_FILTER: Final = f"{BACKPORT}/backport-filter-criteria"
_CONTENT: Final = f"{BACKPORT}/backport-payload-content"
# By URL: the member that has the value, what we call it, the least and the most.
_NUMBERS: Final = {
    f"{BACKPORT}/backport-heartbeat-period": ("valueUnsignedInt", "heartbeat", 0, LONGEST_HEARTBEAT),
    f"{BACKPORT}/backport-timeout": ("valueUnsignedInt", "timeout", 0, LONGEST_TIMEOUT),
    f"{BACKPORT}/backport-max-count": ("valuePositiveInt", "max_count", 1, MOST_EVENTS),
}
# Elements without a meaning for what is delivered are accepted, and not stored.
_ELEMENTS: Final = frozenset(
    [
        "resourceType",
        "id",
        "meta",
        "language",
        "text",
        "extension",
        "contact",
        "status",
        "end",
        "reason",
        "criteria",
        "_criteria",
        "error",
        "channel",
    ]
)
_CHANNEL: Final = frozenset(["id", "type", "endpoint", "payload", "_payload", "header", "extension"])
_LONGEST: Final = 1_000  # characters of reason and filters
_MOST_FILTERS: Final = 20
_MOST_VALUES: Final = 100
_LATEST: Final = 221_845_392_000_000_000  # microseconds: the year 9000

FindPatient = Callable[[str], str | None]
FindEndpoint = Callable[[str], Endpoint | None]


def read_subscription(
    resource: Mapping[str, Any], find_patient: FindPatient, find_endpoint: FindEndpoint
) -> tuple[Wanted, Status, list[str] | None]:
    """Return what a client wants, the status it asks for, and the lines of the header; None: it sent none.

    Args:
        resource: a Subscription.
        find_patient: returns the subject key of ``Patient/ID``, or None if the caller knows no such patient.
        find_endpoint: returns the parts of a URL that may be sent to, or None.

    Raises:
        FhirError: it cannot be used (422).
    """
    _require_known(resource, _ELEMENTS, "Subscription")
    status = resource.get("status")
    if status not in ("requested", "active", "off"):
        raise _refuse("status", "requested, or off")
    topic = TOPICS.get(str(resource.get("criteria")))
    if topic is None:
        raise _refuse("criteria", f"one of the topics {', '.join(TOPICS)}")
    reason = resource.get("reason")
    if not isinstance(reason, str) or not 0 < len(reason) <= _LONGEST or not reason.isprintable():
        raise _refuse("reason", f"why this was created, in at most {_LONGEST:,} printable characters, without naming a patient")
    channel = resource.get("channel")
    if not isinstance(channel, Mapping):
        raise _refuse("channel", "an object with type, endpoint and payload")
    _require_known(channel, _CHANNEL, "Subscription.channel")
    if channel.get("type") != "rest-hook":
        raise _refuse("channel.type", "rest-hook")
    url = channel.get("endpoint")
    endpoint = find_endpoint(url) if isinstance(url, str) else None
    if endpoint is None:
        raise _refuse("channel.endpoint", f"{EXPECTED}; and below one of subscription_endpoints in HOME/fhir.toml")
    if channel.get("payload") != MEDIA_TYPE:
        raise _refuse("channel.payload", MEDIA_TYPE)
    wanted = Wanted(
        topic=topic.url,
        filters=_read_filters(resource.get("_criteria"), topic, find_patient),
        wards=None,
        reason=reason,
        ends_at=None if "end" not in resource else _read_end(resource["end"]),
        endpoint=endpoint.url,
        sealed_header=None,
        content=_read_content(channel.get("_payload")),
        **_read_numbers(channel.get("extension", [])),
    )
    header = check_header(channel["header"]) if "header" in channel else None
    return wanted, "off" if status == "off" else "requested", header


def _refuse(element: str, expected: str) -> FhirError:
    return FhirError(422, f"{element}: expected {expected}", [f"Subscription.{element}"])


def _require_known(content: Mapping[str, Any], known: frozenset[str], path: str) -> None:
    if not content.keys() <= known:  # their names are not repeated: they are whatever the client wrote
        raise FhirError(422, f"{path}: expected no elements but {', '.join(sorted(known))}", [path])


def _read_end(end: Any) -> int:
    try:
        time = read_instant(end, "Subscription.end")
    except RefusedError as error:
        raise _refuse("end", error.refusal.expected) from None
    if time > _LATEST:
        raise _refuse("end", "a time before the year 9000, or none")
    return time


def _extensions(element: Any, path: str) -> list[Mapping[str, Any]]:
    found = element.get("extension", []) if isinstance(element, Mapping) else None
    if not isinstance(found, list) or not all(isinstance(each, Mapping) for each in found):
        raise _refuse(path, "a list of extensions")
    return found


def _read_content(payload: Any) -> Content:
    values = [each.get("valueCode") for each in _extensions(payload or {}, "channel.payload") if each.get("url") == _CONTENT]
    if len(values) != 1 or values[0] not in get_args(Content):
        raise _refuse("channel.payload.extension", f"{_CONTENT} once, with a valueCode of {', '.join(get_args(Content))}")
    return cast("Content", values[0])


def _read_numbers(extensions: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for extension in _extensions({"extension": extensions}, "channel.extension"):
        url = str(extension.get("url"))
        if url not in _NUMBERS:
            raise _refuse("channel.extension", f"only {', '.join(_NUMBERS)}")
        member, name, least, most = _NUMBERS[url]
        value = extension.get(member)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most or name in found:
            raise _refuse("channel.extension", f"{url} once, with a {member} from {least} to {most}")
        found[name] = value or None
    return found


def _read_filters(criteria: Any, topic: Topic, find_patient: FindPatient) -> list[tuple[str, list[str]]]:
    """Return the filters: all must hold, each for one of its values.

    Written as searches, ``RiskAssessment?patient=Patient/ID&ward=B4``, with the type or without.
    """
    filters: list[tuple[str, list[str]]] = []
    for extension in _extensions(criteria or {}, "criteria.extension"):
        text = extension.get("valueString")
        if extension.get("url") != _FILTER or not isinstance(text, str) or not _is_filter(text):
            raise _refuse("criteria.extension", f"only {_FILTER}, with a valueString of at most {_LONGEST:,} ASCII characters")
        kind, mark, query = text.rpartition("?")
        try:
            pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, max_num_fields=_MOST_FILTERS)
        except ValueError:
            pairs = []
        if not pairs or (mark and kind not in (topic.resource, "Patient", "Encounter")):
            raise _refuse_filter(topic)
        for name, value in pairs:
            values = [each for each in value.split(",") if each][: _MOST_VALUES + 1]
            if name in ("patient", "subject") or (kind == "Patient" and name == "_id"):
                filters.append(("patient", [_find(each, find_patient, topic) for each in values]))
            elif name == "ward" and all(each.isprintable() for each in values):
                filters.append(("ward", values))
            else:
                raise _refuse_filter(topic)
            if not 0 < len(values) <= _MOST_VALUES:
                raise _refuse_filter(topic)
    if len(filters) > _MOST_FILTERS:
        raise _refuse_filter(topic)
    return filters


def _is_filter(text: str) -> bool:
    """Return whether a text can be a filter: other characters are percent-encoded, as in every search."""
    return len(text) <= _LONGEST and text.isascii() and text.isprintable()


def _find(value: str, find_patient: FindPatient, topic: Topic) -> str:
    subject = None if "|" in value or not value.isascii() else find_patient(value if "/" in value else f"Patient/{value}")
    if subject is None:
        raise _refuse_filter(topic)
    return subject


def _refuse_filter(topic: Topic) -> FhirError:
    """Return one error for whatever is wrong, so that it tells nothing of patients of other wards."""
    expected = f"{topic.resource}?patient=Patient/ID or ?ward=NAME, of patients and wards that the caller may see"
    return _refuse("criteria.extension", f"{expected}; at most {_MOST_FILTERS} filters of {_MOST_VALUES} values")


def to_resource(subscription: Subscription, reference: Callable[[str], str]) -> dict[str, Any]:
    """Return the resource as its owner reads it.

    Args:
        subscription: as it is stored.
        reference: returns the reference to a patient by the subject key.
    """
    topic = TOPICS[subscription.topic]
    channel: dict[str, Any] = {
        "type": "rest-hook",
        "endpoint": subscription.endpoint,
        "payload": MEDIA_TYPE,
        "_payload": {"extension": [{"url": _CONTENT, "valueCode": subscription.content}]},
    }
    numbers = [
        {"url": url, member: value}
        for url, (member, name, _, _) in _NUMBERS.items()
        if (value := getattr(subscription, name)) is not None
    ]
    shown = [(name, map(reference, values) if name == "patient" else values) for name, values in subscription.filters]
    filters = [
        {"url": _FILTER, "valueString": f"{topic.resource}?{urlencode({name: ','.join(values)}, safe='/,')}"}
        for name, values in shown
    ]
    resource: dict[str, Any] = {
        "resourceType": "Subscription",
        "id": subscription.id,
        "meta": {
            "versionId": str(subscription.version),
            "lastUpdated": write_instant(instant(subscription.updated_at)),
            "profile": [PROFILE],
        },
        "status": shown_status(subscription),
        "end": None if subscription.ends_at is None else write_instant(instant(subscription.ends_at)),
        "reason": subscription.reason,
        "criteria": subscription.topic,
        "_criteria": {"extension": filters} if filters else None,
        "error": shown_error(subscription),
        "channel": channel | ({"extension": numbers} if numbers else {}),
    }
    return {name: value for name, value in resource.items() if value is not None}


def shown_status(subscription: Subscription) -> Status:
    """Return the status that the client is told: events that were lost are an error until it writes again."""
    return "error" if subscription.lost and subscription.status == "active" else subscription.status


def shown_error(subscription: Subscription) -> str | None:
    """Return what is wrong, in words; None: nothing."""
    lost = (
        f"{subscription.lost} events were deleted before they could be delivered; their numbers are missing"
        if subscription.lost
        else None
    )
    return "; ".join(text for text in (subscription.error, lost) if text) or None
