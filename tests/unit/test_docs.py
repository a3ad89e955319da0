"""The docs cannot drift: every command and route is in the README, and every path it names exists."""

import re

from tests.support import ROOT
from vigil.features.cases.page import cases_page
from vigil.features.catalogue_page import catalogue_page
from vigil.pipelines.cli.main import app
from vigil.serving.app import create_app

README = (ROOT / "README.md").read_text()
DEVELOPMENT = (ROOT / "DEVELOPMENT.md").read_text()


def test_every_command_is_in_the_readme():
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    for group in app.registered_groups:
        below = group.typer_instance.registered_commands
        commands |= {group.name, *(f"{group.name} {command.name or command.callback.__name__}" for command in below)}
    assert {name for name in commands if f"`vigil {name}`" not in README} == set()


def test_every_route_is_in_the_readme():
    routes = {f"{method.upper()} {path}" for path, methods in create_app().openapi()["paths"].items() for method in methods}
    assert {route for route in routes if f"`{route}`" not in README} == set()


def test_every_make_target_that_is_named_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make (?:PYTHON=\S+ )?([a-z-]+)", README + DEVELOPMENT, flags=re.MULTILINE))
    assert named
    assert named <= targets


def test_every_path_that_is_named_exists():
    named = set(re.findall(r"`((?:features|models|serving|pipelines|tests|notebooks)/[\w./]*)`", README + DEVELOPMENT))
    assert len(named) > 10
    ignored = {"notebooks/data"}  # by git: people put open data there
    assert {path for path in named - ignored if not (ROOT / path).exists()} == set()


def test_every_page_that_is_linked_exists():
    linked = set(re.findall(r"\]\((?!http)([^)#]+)\)", README + DEVELOPMENT))
    assert len(linked) > 3
    assert {path for path in linked if not (ROOT / path).exists()} == set()


def test_the_lock_names_no_registry():
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert "index-url" not in lock
    assert all("--hash" in block for block in re.split(r"\n(?=\S)", lock) if re.match(r"[a-z]", block))


def test_the_page_about_features_is_up_to_date():
    assert (ROOT / "docs/features.md").read_text() == catalogue_page(), "run: vigil features --catalogue docs/features.md"


def test_the_page_about_cases_is_up_to_date():
    assert (ROOT / "docs/cases.md").read_text() == cases_page(), "run: vigil features --cases docs/cases.md"
