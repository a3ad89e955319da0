"""Pictures of every page at three widths: ``make screenshots``. They go into build/screenshots, and a few into docs/pages.

The ward is invented, and so are its sources and its drift report.
"""

import json
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from PIL import Image

from tests.soak.home import copy_home, make_home
from tests.support import ROOT
from tests.support.chromium import SIZES, Viewer, running_chromium
from tests.support.in_process_server import observations_body
from tests.support.pages_server import PagesServer
from tests.support.pages_ward import WELL, fill
from vigil.models.monitoring.faults import FAULTS
from vigil.models.monitoring.report_schema import REPORT_FILE, Decision, DriftReport, FindingRecord
from vigil.pipelines.environment import prepare_process
from vigil.serving.auth.local_tokens import create_local_token

FOLDER = ROOT / "build" / "screenshots"
SHOWN = ROOT / "docs" / "pages"
PAGES = {
    "wards": "/wards",
    "ward": "/ward/B4",
    "visits": "/ward/B4?visits=3",
    "patient": "/patient",
    "summary": "/patient/summary",
    "operations": "/operations",
}
# What docs/pages.md shows: page, width, language.
DOCUMENTED = (
    ("ward", "wall", "en"),
    ("ward", "phone", "en"),
    ("ward", "tablet", "de"),
    ("lost", "tablet", "en"),
    ("visits", "tablet", "en"),
    ("patient", "wall", "en"),
    ("operations", "wall", "en"),
)


def prepare(home):
    """Give a home what operations show: sources of which one errs, and a report on drift."""
    finding = FindingRecord(
        fault="fahrenheit", signal="body_temperature", place="gateway", where=["gateway-2"], hit=6, of=7,
        remedy=FAULTS["fahrenheit"].remedy,
    )  # fmt: skip
    report = DriftReport(
        status="drift",
        judged_at=datetime.now(UTC) - timedelta(hours=5),
        findings=[finding],
        decision=Decision(action="warn", outcome="look at the findings"),
    )
    (home / "reports").mkdir(exist_ok=True)
    (home / "reports" / REPORT_FILE).write_text(json.dumps(report.as_dict()))


def send(server):
    """Send what gateways send: most of it counts."""
    token = create_local_token(server.home, subject="gateway", scopes=None, wards=None, lifetime=timedelta(hours=1))
    with httpx.Client(base_url=server.url, timeout=30, headers={"Authorization": f"Bearer {token}"}) as client:
        for source, values in (("gateway-1", WELL), ("gateway-2", {"body_temperature": 98.6, "glucose": 110, "spo2": 412})):
            body = observations_body("Bed 7", values, source=source, device_id=None)
            client.post("/v1/observations", json=body).raise_for_status()


def take(server):
    """Take the pictures."""
    with running_chromium() as browser:
        for language in ("en", "de"):
            for size in SIZES:
                viewers = {
                    role: Viewer(browser, server.url, size=size, language=language).log_in(name="Ada Meier", role=role)
                    for role in ("physician", "operator")
                }
                for name, path in PAGES.items():
                    page = viewers["operator" if name == "operations" else "physician"].page
                    if path.startswith("/patient"):
                        page.goto("/ward/B4")
                        path = page.locator(".row .name").first.get_attribute("href") + path.removeprefix("/patient")  # noqa: PLW2901
                    page.goto(path)
                    page.wait_for_timeout(3_000)  # until the first news
                    page.screenshot(path=FOLDER / f"{name}-{size}-{language}.png", full_page=name != "ward")
                if (size, language) == ("tablet", "en"):
                    page = viewers["physician"].page
                    page.goto("/ward/B4")
                    page.locator("#live.on").wait_for()
                    server.freeze()
                    page.locator("#live.off").wait_for()
                    page.screenshot(path=FOLDER / f"lost-{size}-{language}.png")
                    server.thaw()
                for viewer in viewers.values():
                    viewer.close()


def reduce(picture, to):
    """Store a picture with few colours, since it is part of the repository."""
    image = Image.open(picture).convert("RGB")
    image = image.crop((0, 0, image.width, min(image.height, 1_400)))
    image.quantize(48, dither=Image.Dither.NONE).save(to, optimize=True)


def main():
    prepare_process()
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not (FOLDER / "trained.complete").exists():
        shutil.rmtree(FOLDER / "trained", ignore_errors=True)
        (FOLDER / "trained").mkdir()
        make_home(FOLDER / "trained")
        (FOLDER / "trained.complete").touch()
    shutil.rmtree(FOLDER / "home", ignore_errors=True)
    home = copy_home(FOLDER / "trained", FOLDER / "home")
    fill(home, hours=6)
    prepare(home)
    server = PagesServer(home)
    try:
        send(server)
        take(server)
    finally:
        server.stop()
    SHOWN.mkdir(exist_ok=True)
    for parts in DOCUMENTED:
        name = f"{'-'.join(parts)}.png"
        reduce(FOLDER / name, SHOWN / name)
    sys.stdout.write(f"{len([*Path(FOLDER).glob('*.png')])} pictures in {FOLDER}; {len(DOCUMENTED)} of them in {SHOWN}\n")


if __name__ == "__main__":
    main()
