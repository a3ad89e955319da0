"""``Group``: the wards, by id and as a list."""

from typing import Any, Final

from fastapi import APIRouter

from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.outcomes import BASE
from vigil.serving.fhir.routes.reads import Page, offer_read, offer_search
from vigil.serving.fhir.search import Search

router: Final = APIRouter(prefix=BASE, include_in_schema=False)


def _search(components: Any, search: Search, caller: Caller) -> Page:
    groups = components.groups.search(caller)
    return [group for group in groups if search.ids is None or group["id"] in search.ids], None


offer_read(router, "Group", lambda components, identity, caller: components.groups.read(identity, caller))
offer_search(router, "Group", _search)
