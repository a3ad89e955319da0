"""The routes under ``/fhir``. None of them is in the OpenAPI document: ``/fhir/metadata`` says what there is, as FHIR does."""

from typing import Final

from vigil.serving.fhir.routes import bundles, detected_issues, exports, groups, metadata, reads, risks, subscriptions, writes

# The exports come before the reads: Patient/$export is no patient's id.
ROUTERS: Final = (
    bundles.router,
    detected_issues.router,
    exports.router,
    groups.router,
    metadata.router,
    reads.router,
    risks.router,
    subscriptions.router,
    writes.router,
)
