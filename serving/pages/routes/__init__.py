"""The routes of the pages."""

from typing import Final

from vigil.serving.pages.routes import assets, ward

ROUTERS: Final = (assets.router, ward.router)
