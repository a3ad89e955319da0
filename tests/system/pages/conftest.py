"""A ward with a model, its server, and people at browsers."""

import pytest

from tests.support.browser_ward import running_browser_ward
from tests.support.chromium import AXE, Viewer, fetch_axe, running_chromium
from tests.support.pages_server import PagesServer
from tests.support.pages_ward import fill
from vigil.serving.records.ward_settings import FILE as WARDS


@pytest.fixture(scope="module")
def chromium():
    """A browser until the end of the module: while it runs, no other test of the process can start an event loop."""
    with running_chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def axe(request):
    return fetch_axe(request.config.cache.mkdir(AXE.replace("@", "-")))


@pytest.fixture(scope="session")
def pages(home, tmp_path_factory):
    """The server of a ward whose patients have a past."""
    from tests.soak.home import copy_home

    folder = copy_home(home, tmp_path_factory.mktemp("pages") / "home")
    (folder / WARDS).write_text("[wards.B4]\nalarms_per_patient_day = 20\n")  # tests sound some
    fill(folder, hours=3)
    server = PagesServer(folder)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def ward_here(tmp_path_factory):
    """A server without a model inside the test's process, which a browser can reach."""
    with running_browser_ward(tmp_path_factory.mktemp("here")) as running:
        yield running


@pytest.fixture
def visit(chromium, ward_here):
    """A person who has logged in there: ``visit(path, scopes=..., tells=...)``; ``tells``: faults that are meant."""
    viewers = []

    def go(path, *, tells=(), before=None, **options):
        viewer = Viewer(chromium, ward_here.url, **options)
        viewers.append((viewer, tells))
        viewer.page.context.add_cookies([ward_here.cookie()])
        viewer.page.clock.install()
        if before:
            viewer.page.add_init_script(before)
        viewer.page.goto(path)
        return viewer.page

    yield go
    for viewer, _ in viewers:
        viewer.close()
    assert [fault for viewer, tells in viewers for fault in viewer.faults if not any(text in fault for text in tells)] == []


@pytest.fixture
def look(chromium, pages):
    """A person at a browser of their own: ``look(path, size=..., wards=...)``. No browser may tell of a fault."""
    viewers = []

    def log_in(path="/ward/B4", *, wards="", role="physician", **options):
        viewers.append(Viewer(chromium, pages.url, **options))
        return viewers[-1].log_in(path, wards=wards, role=role)

    yield log_in
    for viewer in viewers:
        viewer.close()
    assert [fault for viewer in viewers for fault in viewer.faults] == []
