"""The routes under ``/fhir``. None of them is in the OpenAPI document: ``/fhir/metadata`` says what there is, as FHIR does."""

from typing import Final

from vigil.serving.fhir.routes import bundles, detected_issues, metadata, reads, risks, writes

ROUTERS: Final = (
    bundles.router,
    detected_issues.router,
    metadata.router,
    reads.router,
    risks.router,
    writes.router,
)
