"""The routes of the pages."""

from typing import Final

from vigil.serving.pages.routes import assets, operations, patient, ward

ROUTERS: Final = (assets.router, operations.router, patient.router, ward.router)
