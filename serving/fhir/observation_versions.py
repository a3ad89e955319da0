"""Versions of an Observation: which it is, by what it says, and which number the journal gives it."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from vigil.features.revisions import CORRECTED, RETRACTED
from vigil.serving.fhir.observations import STATUSES, MappedObservation
from vigil.serving.fhir.operations import Operation
from vigil.serving.fhir.outcomes import FhirError
from vigil.serving.fhir.references import identifier_keys
from vigil.serving.fhir.times import write_instant
from vigil.serving.records.fhir_observations import SentResource
from vigil.serving.records.timestamps import instant

REVISING: Final = frozenset(status for status, own in STATUSES.items() if own in (CORRECTED, RETRACTED))


def next_number(operation: Operation, before: SentResource, *, is_update: bool) -> int | None:
    """Return by which number the journal takes a version; None: its client numbers them, or it is an original."""
    meta = _meta_of(operation.resource or {})
    if "versionId" in meta and not _is_returned(meta, operation, before):
        return None
    number = newest(before) + is_update
    return number if number > 1 else None


def newest(known: SentResource) -> int:
    """Return the number of the version that the journal has."""
    return max(known.version, known.number or 1)


def numbered(resource: Mapping[str, Any], identity: str, number: int | None) -> dict[str, Any]:
    """Return a resource with its id, and as a later version if it has such a number."""
    return {**resource, "id": identity} | ({} if number is None else {"meta": {**_meta_of(resource), "versionId": "2"}})


def _meta_of(resource: Mapping[str, Any]) -> Mapping[str, Any]:
    meta = resource.get("meta")
    return meta if isinstance(meta, Mapping) else {}


def require_version(operation: Operation, known: SentResource | None) -> None:
    """Check that the version that a client has seen, if it says which, is the present one."""
    if operation.if_match is not None and (known is None or known.version != operation.if_match):
        raise FhirError(412, "If-Match: another version is the present one; read it, and decide again")


def _is_returned(meta: Mapping[str, Any], operation: Operation, before: SentResource) -> bool:
    """Return whether a client sends back the ``meta`` that this server gave: then it numbers no versions of its own."""
    if meta.get("versionId") != str(before.version):
        return False
    return operation.if_match is not None or meta.get("lastUpdated") == write_instant(instant(before.updated_at))


def is_old(mapped: MappedObservation, before: SentResource) -> bool:
    """Return whether a version is not newer than the one before, as its client numbers them.

    Of rows of an earlier version of Vigil the client's number is not known: the journal decides.
    """
    return mapped.version is not None and before.source is not None and mapped.version <= newest(before)


def name_of(operation: Operation, content: str | None) -> str:
    """Return what names an Observation without an id: the identifier of a condition, its own first one, or its content.

    Args:
        operation: that writes it.
        content: its digest, if that is known already.
    """
    resource = operation.resource or {}
    return operation.identifier or next(identifier_keys(resource), None) or content or content_of(resource)


def content_of(resource: Mapping[str, Any]) -> str:
    """Return a digest that two resources have in common if they say the same, whatever the sender calls them."""
    said = {name: value for name, value in resource.items() if name not in ("id", "meta")}
    return hashlib.blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=16).hexdigest()
