"""The routes of the pages."""

from typing import Final

from vigil.serving.pages.routes import assets, patient, ward

ROUTERS: Final = (assets.router, patient.router, ward.router)
