"""The routes under ``/fhir``. None of them is in the OpenAPI document: ``/fhir/metadata`` says what there is, as FHIR does."""

from typing import Final

from fastapi import APIRouter

from vigil.serving.fhir.routes import bundles, metadata, risks, writes

router: Final = APIRouter(include_in_schema=False)
for _part in (metadata.router, bundles.router, writes.router, risks.router):
    router.include_router(_part)
