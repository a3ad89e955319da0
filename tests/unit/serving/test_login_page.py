"""docs/login.md cannot drift: it has every route, every setting, and the figures of the code."""

import re
import tomllib

from tests.support import ROOT
from vigil.serving.login import local_server, routes
from vigil.serving.login.attempts import SECONDS
from vigil.serving.login.dependencies import CSRF_FIELD, CSRF_HEADER
from vigil.serving.login.id_tokens import _ALGORITHMS
from vigil.serving.login.links import LINK_SECONDS
from vigil.serving.login.service import LOCAL_PATH
from vigil.serving.login.settings import IssuerSettings, LoginSettings

PAGE = (ROOT / "docs" / "login.md").read_text()
ROUTES = {f"{method} {route.path}" for route in routes.router.routes for method in route.methods}


def test_every_route_is_there_and_no_other():
    assert set(re.findall(r"^\| `((?:GET|POST) /login[/\w]*)` \|", PAGE, re.MULTILINE)) == ROUTES
    assert all(route.path.startswith(f"{LOCAL_PATH}/") for route in local_server.router.routes)
    assert f"`{LOCAL_PATH}/...`" in PAGE


def test_the_example_holds_every_setting_and_can_be_used():
    (text,) = re.findall(r"```toml\n(.+?)```", PAGE, re.DOTALL)
    example = tomllib.loads(text)
    settings = LoginSettings.model_validate(example)
    assert example.keys() == LoginSettings.model_fields.keys()
    named = set(re.findall(r"\b(\w+) = ", text)) | {"roles", "people", "screens"}
    assert named == {*IssuerSettings.model_fields, "idle_minutes", "lifetime_hours"}
    defaults = LoginSettings()
    assert (settings.idle_minutes, settings.lifetime_hours) == (defaults.idle_minutes, defaults.lifetime_hours)


def test_figures_and_names_are_those_of_the_code():
    assert ", ".join(_ALGORITHMS) in PAGE
    assert (LINK_SECONDS, SECONDS) == (600, 600)
    assert PAGE.count("ten minutes") == 2
    assert f"`{CSRF_FIELD}`" in PAGE
    assert f"`{CSRF_HEADER}`" in PAGE
