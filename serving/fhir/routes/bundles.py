"""``POST /fhir``: batch and transaction."""

from collections.abc import Mapping
from typing import Any, Final, TypeGuard

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool

from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.interactions import RESOURCES
from vigil.serving.fhir.operations import (
    MAX_ENTRIES,
    MAX_READS,
    Operation,
    parse_entry,
    parse_json,
    read_written_type,
    require_resource,
    resolve_references,
)
from vigil.serving.fhir.outcomes import BASE, FhirError, FhirResponse, outcome
from vigil.serving.fhir.resource_types import RESOURCE_TYPES
from vigil.serving.fhir.routes.access import require_form
from vigil.serving.fhir.routes.answers import InboundHere, check, parse_preference, take, to_entry
from vigil.serving.fhir.routes.reads import answer_entry

router: Final = APIRouter(prefix=BASE, include_in_schema=False)

_TYPES: Final = ("Device", "Encounter", "Observation", "Patient")  # that a bundle may write
_WRITES: Final = {offered.type: frozenset(offered.interactions) for offered in RESOURCES if offered.type in _TYPES}
_WRITING: Final = frozenset(("create", "update", "patch", "delete"))
_OTHER_TYPES: Final = RESOURCE_TYPES - {offered.type for offered in RESOURCES if _WRITING.intersection(offered.interactions)}
_LETTERS: Final = {"create": "c", "update": "u", "delete": "d"}


@router.post("")
@router.post("/")
async def post_bundle(request: Request, inbound: InboundHere) -> FhirResponse:
    """Entries of a batch are done one by one; those of a transaction all, or none if one of them cannot be used.

    A transaction of a record system has entries of types that cannot be written here, which the others refer to, and
    Observations of no signal. They are answered with a warning and not stored; a client that prefers ``handling=strict`` gets
    the transaction refused.
    """
    require_form(request)
    caller: Caller = request.state.caller
    bundle = require_resource(parse_json(await request.body()), "Bundle")
    kind, entries = bundle.get("type"), bundle.get("entry", [])
    if kind not in ("batch", "transaction"):
        raise FhirError(400, "type: expected batch or transaction", ["Bundle.type"])
    if not isinstance(entries, list) or len(entries) > MAX_ENTRIES:
        raise FhirError(413, f"entry: expected a list of at most {MAX_ENTRIES} entries", ["Bundle.entry"])
    is_lenient = kind == "transaction" and "handling=strict" not in request.headers.get("prefer", "")
    operations = [
        Operation("ignore", str(name))
        if is_lenient and (name := read_written_type(entry)) in _OTHER_TYPES
        else _parse(position, entry, caller)
        for position, entry in enumerate(entries)
    ]
    resolve_references(operations)
    if kind == "transaction":
        whole: list[Operation] = []
        for operation in operations:
            if isinstance(operation, FhirError):
                raise operation
            operation.is_lenient = is_lenient
            whole.append(operation)
        _require_once(whole)
        await check(inbound, whole, caller)
    reads = {position: operation for position, operation in enumerate(operations) if _is_read(operation)}
    if len(reads) > MAX_READS:
        raise FhirError(413, f"entry: expected at most {MAX_READS} entries with GET", ["Bundle.entry"])
    writes = [operation for position, operation in enumerate(operations) if position not in reads]
    preference = parse_preference(request)
    answers = await take(inbound, writes, caller)
    done = iter([to_entry(answer, sent, preference) for answer, sent in zip(answers, writes, strict=True)])
    prefer = request.headers.get("prefer", "")
    found = await run_in_threadpool(_read, request.app.state.components, caller, reads, prefer)
    entries = [found[position] if position in reads else next(done) for position in range(len(operations))]
    return FhirResponse({"resourceType": "Bundle", "type": f"{kind}-response", "entry": entries})


def _is_read(operation: Operation | FhirError) -> TypeGuard[Operation]:
    return isinstance(operation, Operation) and operation.interaction == "read"


def _read(components: Any, caller: Caller, operations: Mapping[int, Operation], prefer: str) -> dict[int, dict[str, Any]]:
    """Return the entries of what was asked for, by position, after everything was written."""
    entries: dict[int, dict[str, Any]] = {}
    for position, operation in operations.items():
        try:
            resource = answer_entry(components, caller, operation.url, prefer)
            entries[position] = {"resource": resource, "response": {"status": "200"}}
        except FhirError as error:
            entries[position] = {"response": {"status": str(error.status_code), "outcome": outcome([error.issue])}}
    return entries


def _parse(position: int, entry: Any, caller: Caller) -> Operation | FhirError:
    """Return what an entry asks for, or why the caller cannot have it."""
    try:
        operation = parse_entry(entry)
    except FhirError as error:
        error.issue["expression"] = [f"Bundle.entry[{position}]", *error.issue.get("expression", [])]
        return error
    if operation.interaction == "read":
        return operation
    path = [f"Bundle.entry[{position}]", "Bundle.entry.request.url"]
    letter = _LETTERS[operation.interaction]
    if operation.interaction not in _WRITES.get(operation.type, ()):
        return FhirError(404, "request.url: no such interaction is offered; see /fhir/metadata", path)
    if not caller.may(letter, operation.type):
        return FhirError(403, f"token: expected the scope system/{operation.type}.{letter}", path)
    return operation


def _require_once(operations: list[Operation]) -> None:
    """Check that no resource is written twice in a transaction, whose order would decide.

    Raises:
        FhirError: one is (400).
    """
    named = [(operation.type, operation.id or operation.identifier) for operation in operations]
    written = [name for name in named if name[1] is not None]
    if len(set(written)) < len(written):
        raise FhirError(400, "entry: expected each resource once in a transaction", ["Bundle.entry"])
