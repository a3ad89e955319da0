"""The routes under ``/fhir``. None of them is in the OpenAPI document: ``/fhir/metadata`` says what there is, as FHIR does."""

from typing import Final

from fastapi import APIRouter

from vigil.serving.fhir.routes import metadata

router: Final = APIRouter(prefix="/fhir", include_in_schema=False)
for _part in (metadata.router,):
    router.include_router(_part)
