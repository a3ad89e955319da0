"""The documentation site builds without a warning, shows what exists, and loads nothing from elsewhere; its tutorial works."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vigil
from tests.support import ROOT
from vigil.pipelines.cli.main import app
from vigil.pipelines.operations.server import bind_socket

DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Folder of the built site. A warning, such as a broken link, fails the build."""
    folder = tmp_path_factory.mktemp("site")
    target = re.search(r"^docs:.*\n\t(.+)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)[1]
    assert target == "$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -c docs . docs/_build/html"
    command = [sys.executable, "-m", "sphinx", *target.split()[1:-1], folder]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


def entries(site):
    """Return the names that have an entry in the reference."""
    pages = (site / "docs" / "reference").glob("*.html")
    entry = re.compile(r'(?:<dt class="sig[^"]*" id="|id="module-)([\w.]+)"')
    return {name for page in pages for name in entry.findall(page.read_text())}


def test_every_public_name_has_an_entry_and_a_text(site):
    assert {f"vigil.{name}" for name in vigil.__all__} <= entries(site)
    assert {"vigil.Home.train", "vigil.Cohort.check", "vigil.Model.predict", "vigil.features.batch.build_features"} <= entries(
        site
    )


def test_every_page_is_reached_from_the_first(site):
    reached, below = set(), [site / "docs" / "index.html"]
    while below:
        page = below.pop()
        reached.add(page)
        links = {(page.parent / link).resolve() for link in re.findall(r'href="([^":#]+\.html)', page.read_text())}
        below += [link for link in links - reached - set(below) if link.is_relative_to(site)]
    built = {
        site / path.relative_to(ROOT).with_suffix(".html") for path in [*DOCS.glob("*.md"), *ROOT.glob("notebooks/*.ipynb")]
    }
    assert built <= reached


def test_pages_load_nothing_from_elsewhere(site):
    loaded = re.compile(
        r"<(?:script|link|img|iframe|source|video|object)\b[^>]*?(?:src|href|data)=[\"']?((?:https?:)?//[^\"' >]+)"
    )
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    assert {(page.name, url) for page in pages for url in loaded.findall(page.read_text())} == set()
    styles = "".join(style.read_text() for style in site.rglob("*.css"))
    assert re.findall(r"url\([\"']?(?:https?:)?//[^)]+|@import[^;]+//[^;]+", styles) == []


def test_pages_name_no_path_of_a_machine(site):
    assert [page.name for page in site.rglob("*.html") if str(ROOT) in page.read_text()] == []


def test_notebooks_are_shown_with_their_plots(site):
    for page in (site / "notebooks").glob("*.html"):
        assert page.read_text().count("<img") >= 3, page.name


def test_every_command_and_option_is_shown(site):
    page = (site / "docs" / "commands.html").read_text()
    commands = [command for command in app.registered_commands if not command.hidden]
    assert len(commands) > 15
    for command in commands:
        assert f'id="vigil-{command.name or command.callback.__name__}"' in page
    assert "--time-zone" in page


def test_the_openapi_document_is_shown_and_can_be_taken(site):
    assert '"/v1/observations"' in (site / "openapi.json").read_text()
    assert "/v1/risk/observations" in (site / "docs" / "openapi.html").read_text()


def test_the_tutorial_works(ward_backup, tmp_path):
    """Run its commands and its Python on a small ward, but for what other tests run: the demo and the drill."""
    port = free_port()
    blocks = re.findall(r"^```(sh|python)\n(.+?)^```$", (DOCS / "tutorial.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    script = "\n".join(text if language == "sh" else f"python <<'END'\n{text}END\n" for language, text in blocks)
    script = script.replace("3000", str(port))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    subprocess.run(["vigil", "restore", "--from", ward_backup, "--trust"], cwd=tmp_path, env=environment, check=True)
    ran = subprocess.run(["bash"], input=script, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    shown = ran.stdout
    assert "champion" in shown
    assert "1 readings are left out: 1 implausible" in shown
    assert re.search(r"A +model +0\.\d+ +high +11", shown)
    assert re.search(r"B +model +0\.\d+ +low +0", shown)
    answer = json.loads(shown[shown.index('{"prediction_id"') :])
    assert answer["basis"] == "model"
    assert answer["band"] == "high"


def free_port():
    with bind_socket() as listener:
        return listener.getsockname()[1]
