"""``GET /fhir/metadata``: the CapabilityStatement, which lists what works and nothing else. It needs no token."""

from importlib.metadata import version
from typing import Any, Final

from fastapi import APIRouter, Request

from vigil.serving.fhir.interactions import BULK_DATA, RESOURCES, SYSTEM_INTERACTIONS, SYSTEM_OPERATIONS
from vigil.serving.fhir.outcomes import BASE, MEDIA_TYPE, FhirResponse
from vigil.serving.fhir.routes.access import require_form

router: Final = APIRouter(prefix=BASE, include_in_schema=False)

_PUBLISHED: Final = "2026-11-30"  # of this form of the statement
_DOCUMENTATION: Final = (
    "Entries of a transaction whose types cannot be written here are answered with a warning and not stored. With the header "
    "Prefer: handling=strict the transaction is refused instead."
)
_SMART: Final = "http://terminology.hl7.org/CodeSystem/restful-security-service"


@router.get("/metadata")
async def metadata(request: Request) -> FhirResponse:
    """What this server offers (https://hl7.org/fhir/R4/capabilitystatement.html)."""
    require_form(request)
    return FhirResponse(capability_statement(request.app.state.components.smart.token_url))


def capability_statement(token_url: str) -> dict[str, Any]:
    """Return the CapabilityStatement of a server whose clients get tokens at ``token_url``."""
    oauth_uris = {
        "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
        "extension": [{"url": "token", "valueUri": token_url}],
    }
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": _PUBLISHED,
        "kind": "instance",
        "instantiates": [f"{BULK_DATA}/CapabilityStatement/bulk-data"],
        "software": {"name": "Vigil", "version": version("vigil")},
        "implementation": {"description": "Vigil: early warning of deterioration"},
        "fhirVersion": "4.0.1",
        "format": [MEDIA_TYPE],
        "rest": [
            {
                "mode": "server",
                "documentation": _DOCUMENTATION,
                "security": {
                    "cors": False,
                    "service": [{"coding": [{"system": _SMART, "code": "SMART-on-FHIR"}]}],
                    "extension": [oauth_uris],
                },
                "resource": [offered.describe() for offered in RESOURCES],
                "interaction": [{"code": code} for code in SYSTEM_INTERACTIONS],
                "operation": [*SYSTEM_OPERATIONS],
            }
        ],
    }
