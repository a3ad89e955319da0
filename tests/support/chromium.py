"""A real browser, headless, and what it must not see on any page: errors, refusals of the policy, requests to other hosts."""

import os
import shutil
import subprocess
import tarfile
from contextlib import contextmanager
from urllib.parse import urlsplit

import psutil
import pytest
from playwright.sync_api import sync_playwright

AXE = "axe-core@4.14.1"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SIZES = {"wall": (1920, 1080), "tablet": (1024, 768), "phone": (390, 844)}


def _missing(what):
    if os.environ.get("VIGIL_COHORTS_REQUIRED"):
        pytest.fail(f"{what} is required here, and is not at hand")
    pytest.skip(f"{what} is not at hand")


@contextmanager
def running_chromium():
    """Run the Chromium of this machine; none is downloaded."""
    path = shutil.which("chromium") or _missing("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


def fetch_axe(folder):
    """Return axe as one script, fetched by npm into a folder if it is not there."""
    script = folder / "package" / "axe.min.js"
    if not script.exists():
        npm = shutil.which("npm") or _missing("npm")
        done = subprocess.run(
            [npm, "pack", AXE, "--pack-destination", folder, "--silent"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode:
            _missing("axe-core, which npm fetches,")
        (archive,) = folder.glob("*.tgz")
        with tarfile.open(archive) as content:
            content.extract("package/axe.min.js", folder, filter="data")
    return script.read_text()


class Viewer:
    """One person at a browser of their own.

    Attributes:
        page: of Playwright.
        faults: errors and refusals that the browser told, and requests to other hosts.
    """

    def __init__(self, browser, url, size="wall", language="en", **options):
        width, height = SIZES[size]
        self.url, self.faults = url, []
        options = {"timezone_id": "Europe/Berlin", "locale": language, **options}
        self._context = browser.new_context(base_url=url, viewport={"width": width, "height": height}, **options)
        self.page = self._context.new_page()
        self.page.set_default_timeout(30_000)
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        self.page.on("request", self._on_request)

    def _on_console(self, message):
        if message.type in {"error", "warning"}:
            self.faults.append(f"{message.type}: {message.text}")

    def _on_request(self, request):
        if urlsplit(request.url).netloc not in {urlsplit(self.url).netloc, ""}:
            self.faults.append(f"another host: {request.url}")

    def log_in(self, path="/wards", *, name="Ada Meier", role="physician", wards=""):
        """Log in as a person of this machine, and go on to a page."""
        self.page.goto(f"/login?next={path}")
        self.page.fill("[name=name]", name)
        self.page.select_option("[name=role]", role)
        self.page.fill("[name=wards]", wards)
        self.page.click("button")
        self.page.wait_for_selector("#content")
        return self

    def close(self):
        self._context.close()


def violations(page, axe):
    """Return what axe finds on a page: rule, and the first places."""
    page.evaluate(axe)
    found = page.evaluate("rules => axe.run(document, {runOnly: rules}).then(result => result.violations)", RULES)
    return [
        f"{each['id']}: {[node['target'] for node in each['nodes']][:3]} {each['nodes'][0]['failureSummary']}" for each in found
    ]


def seconds_of_processors(names=("chromium", "chrome")):
    """Return the seconds that processors have spent on the browser, which this process started."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            if any(name in process.name() for name in names):
                total += sum(process.cpu_times()[:2])
        except psutil.NoSuchProcess:
            continue
    return total
