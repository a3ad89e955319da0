"""What a client asks for: one interaction with one resource, alone or as an entry of a bundle."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from vigil.serving.fhir.outcomes import FhirError
from vigil.serving.fhir.references import read_local

MAX_ENTRIES: Final = 5_000  # of a bundle
MAX_READS: Final = 100  # of them that read
MAX_BODY_BYTES: Final = 10_000_000  # of a request under /fhir: so many Observations
_DEEPEST: Final = 100  # no resource comes near; what is deeper could be read and not be written again
_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_ETAG: Final = re.compile(r'(?:W/)?"?(\d{1,18})"?')
_UNCONDITIONAL: Final = ("Device", "Encounter")  # types that are written, and by no condition
_METHODS: Final = {"GET": "read", "POST": "create", "PUT": "update", "DELETE": "delete"}


@dataclass(slots=True)
class Operation:
    """One interaction.

    Attributes:
        interaction: ``create``, ``update`` or ``delete``; of an entry of a bundle also ``read``, which may be a search, and
            ``ignore``, if its type cannot be written.
        type: of the resource.
        id: of the resource; None: it gets one, or :attr:`identifier` tells which it is.
        identifier: the ``SYSTEM|VALUE`` of a conditional interaction: create unless one with it exists, or update that one.
        resource: parsed JSON; None of a deletion.
        if_match: the version that the client has seen; None: any.
        full_url: by which other entries of the bundle refer to it.
        is_lenient: an Observation that is of no signal here is answered with a warning, and refuses no transaction.
        url: of what is read, relative to the base.
    """

    interaction: str
    type: str
    id: str | None = None
    identifier: str | None = None
    resource: dict[str, Any] | None = None
    if_match: int | None = None
    full_url: str | None = None
    is_lenient: bool = False
    url: str = ""


def parse_json(body: bytes) -> Any:
    """Return parsed JSON.

    Raises:
        FhirError: it is no JSON, says one thing twice, or is nested too deeply (400).
    """
    try:
        content = json.loads(body, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise FhirError(400, "body: expected JSON in which each object has each name once, and numbers are finite") from None
    level, depth = [content], 0
    while level := [
        inner
        for outer in level
        if isinstance(outer, dict | list)
        for inner in (outer.values() if isinstance(outer, dict) else outer)
        if isinstance(inner, dict | list)
    ]:
        depth += 1
        if depth > _DEEPEST:
            raise FhirError(400, f"body: expected JSON that is nested at most {_DEEPEST} deep")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) != len(pairs):
        raise ValueError
    return parsed


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def require_resource(content: Any, kind: str) -> dict[str, Any]:
    """Return a resource of a type.

    Raises:
        FhirError: it is none (400).
    """
    if not isinstance(content, dict) or content.get("resourceType") != kind:
        raise FhirError(400, f"resourceType: expected {kind}", [kind])
    return content


def parse_version(text: str | None) -> int | None:
    """Return the version of an ``If-Match``, such as ``W/"3"``; None: there is none.

    Raises:
        FhirError: it names no version (400).
    """
    if text is None:
        return None
    match = _ETAG.fullmatch(text.strip())
    if match is None:
        raise FhirError(400, 'If-Match: expected one version, such as W/"3"')
    return int(match.group(1))


def parse_condition(query: str) -> str:
    """Return the identifier of a condition such as ``identifier=urn:x|7``.

    Raises:
        FhirError: it is another condition (400).
    """
    try:
        pairs = parse_qsl(query.removeprefix("?"), keep_blank_values=True, max_num_fields=20) if len(query) <= 2_000 else []
    except ValueError:  # too many
        pairs = []
    if [name for name, _ in pairs] != ["identifier"] or not pairs[0][1].partition("|")[2]:
        raise FhirError(400, "condition: expected identifier=SYSTEM|VALUE and nothing else")
    return pairs[0][1]


def read_written_type(entry: Any) -> str | None:
    """Return the type of resource that an entry of a bundle writes; None: it does not say, or writes nothing."""
    request = entry.get("request") if isinstance(entry, Mapping) else None
    if not isinstance(request, Mapping) or request.get("method") == "GET":
        return None
    url = request.get("url")
    return re.split(r"[/?]", url.strip("/"), maxsplit=1)[0] if isinstance(url, str) else None


def parse_entry(entry: Any) -> Operation:
    """Return what an entry of a batch or a transaction asks for.

    Raises:
        FhirError: it is no such entry, or asks for what is not offered (400).
    """
    sent = entry.get("request") if isinstance(entry, Mapping) else None
    request: Mapping[str, Any] = sent if isinstance(sent, Mapping) else {}
    method, url = request.get("method"), request.get("url")
    if not isinstance(method, str) or not isinstance(url, str):
        raise FhirError(400, "request: expected method and url", ["Bundle.entry.request"])
    if method not in _METHODS:
        raise FhirError(400, f"request.method: expected one of {', '.join(_METHODS)}", ["Bundle.entry.request.method"])
    path, _, query = url.partition("?")
    kind, _, identity = path.strip("/").partition("/")
    if method == "GET":
        return Operation("read", kind, url=url)
    operation = Operation(_METHODS[method], kind, identity or None, parse_condition(query) if query else None)
    condition = request.get("ifNoneExist")
    if condition is not None:
        operation.identifier = parse_condition(condition if isinstance(condition, str) else "")
    if_match = request.get("ifMatch")
    operation.if_match = parse_version(if_match if isinstance(if_match, str) or if_match is None else "")
    full_url = entry.get("fullUrl")
    operation.full_url = full_url if isinstance(full_url, str) else None
    if operation.interaction != "delete":
        resource = entry.get("resource")
        if not isinstance(resource, dict) or resource.get("resourceType") != kind:
            raise FhirError(400, "resource: expected a resource of the type in request.url", ["Bundle.entry.resource"])
        operation.resource = resource
    check_operation(operation)
    return operation


def resolve_references(operations: Iterable[object]) -> None:
    """Let relative references to Patients stand for the entries that they mean.

    ``Patient/77`` of an entry of another server is that server's: it is told by the full URL of the entry that refers
    (https://hl7.org/fhir/R4/bundle.html#references), and nobody whom this server knows by that id.
    """
    own = [operation for operation in operations if isinstance(operation, Operation)]
    new = {operation.full_url for operation in own if operation.type == "Patient" and operation.id is None}
    for operation in own:
        resource, local = operation.resource or {}, read_local(operation.full_url)
        subject = resource.get("subject")
        if operation.full_url is None or local is None or not isinstance(subject, dict):
            continue
        absolute = f"{operation.full_url.removesuffix('/'.join(local))}{subject.get('reference')}"
        if absolute in new:
            operation.resource = {**resource, "subject": {**subject, "reference": absolute}}


def check_operation(operation: Operation) -> None:
    """Check that ids fit together, and that what is updated or deleted is named.

    Raises:
        FhirError: they do not (400).
    """
    if operation.identifier is not None and operation.type in _UNCONDITIONAL:
        kind = operation.type
        raise FhirError(400, f"condition: {kind} takes none; offered are POST {kind} and PUT {kind}/ID", [kind])
    if operation.id is not None and not _ID.fullmatch(operation.id):
        raise FhirError(400, "id: expected 1 to 64 letters, digits, - and .", ["Resource.id"])
    if operation.interaction == "create" and operation.id is not None:
        raise FhirError(400, "request.url: expected no id, which the server chooses; or PUT", ["Bundle.entry.request.url"])
    if operation.interaction == "delete" and operation.id is None:
        raise FhirError(400, "request.url: expected the id of what is deleted", ["Bundle.entry.request.url"])
    if operation.interaction == "update":
        if (operation.id is None) == (operation.identifier is None):
            raise FhirError(400, "request.url: expected TYPE/ID or TYPE?identifier=SYSTEM|VALUE", ["Bundle.entry.request.url"])
        own = None if operation.resource is None else operation.resource.get("id")
        if operation.id is not None and own != operation.id:
            raise FhirError(400, "id: expected the id of the URL in the resource", ["Resource.id"])
