"""docs/grafana.json asks for what the server exports: compared with the real page of metrics, after some traffic."""

import json
import re
import time
from collections import defaultdict
from datetime import timedelta

import httpx
import pandas as pd
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support import ROOT
from vigil.serving.auth.local_tokens import create_local_token

DASHBOARD = json.loads((ROOT / "docs" / "grafana.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
SICK = {"heart_rate": 135, "spo2": 85, "respiratory_rate": 32, "systolic_bp": 88, "body_temperature": 99}  # the last cannot be


@pytest.fixture(scope="module")
def home(served_home):
    return served_home


def exported(server):
    """Of each sample on the page: the values of its labels."""
    found = defaultdict(lambda: defaultdict(set))
    for family in text_string_to_metric_families(httpx.get(f"{server}/metrics", timeout=30).text):
        for sample in family.samples:
            for label, value in {"": "", **sample.labels}.items():
                found[sample.name][label].add(value)
    return found


DRIFT = {
    "status": "drift",
    "judged_at": "2026-02-01T12:00:00+00:00",
    "findings": [{"fault": "stuck", "signal": "spo2"}],
    "columns": {"share": 0.03},
    "performance": {"estimated": {"auroc": 0.81}},
    "decision": {"action": "warn"},
}


@pytest.fixture(scope="module")
def drift_judged(home):
    """A drift report with all figures, in the place of the home's own."""
    path = home / "reports" / "drift.json"
    own = path.read_bytes() if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(DRIFT))
    yield
    path.unlink() if own is None else path.write_bytes(own)


@pytest.fixture(scope="module")
def page(server, home, easily_alarmed, drift_judged):  # noqa: ARG001 - the report is to be there
    token = create_local_token(home, subject="tests", scopes=None, wards=None, lifetime=timedelta(hours=1))
    about = {"patient_id": "dashboard-1", "observed_at": pd.Timestamp.now("UTC").isoformat()}
    readings = [{**about, "message_id": signal, "signal": signal, "value": value} for signal, value in SICK.items()]
    with httpx.Client(base_url=server, timeout=30, headers={"Authorization": f"Bearer {token}"}) as client:
        for path, body in (
            ("/v1/patients", {"patients": [{"patient_id": "dashboard-1", "ward": easily_alarmed}]}),
            ("/v1/observations", {"observations": readings}),
        ):
            assert client.post(path, json=body).status_code == 200
        assert client.post("/v1/risk", json={"patient_id": "nobody at all"}).status_code == 404
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            found = exported(server)
            if {"vigil_alarms_total", "vigil_feast_rows_total", "vigil_freshness_seconds_bucket"} <= found.keys():
                break
            time.sleep(0.5)
    return found


def test_each_panel_says_what_it_shows_and_in_which_unit():
    titles = [panel["title"] for panel in DASHBOARD["panels"]]
    assert len(set(titles)) == len(titles) == len({panel["id"] for panel in DASHBOARD["panels"]})
    assert all(titles)
    assert all(panel["fieldConfig"]["defaults"]["unit"] for panel in DASHBOARD["panels"])
    assert all(panel["targets"] for panel in DASHBOARD["panels"])


def test_the_data_source_is_chosen_once():
    (variable,) = DASHBOARD["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")
    sources = [part["datasource"] for panel in DASHBOARD["panels"] for part in (panel, *panel["targets"])]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)


def test_panels_lie_beside_each_other():
    cells = [
        (x, y)
        for at in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_each_expression_asks_for_what_is_exported(page, expression):
    names = re.findall(r"\bvigil_\w+", expression)
    assert names
    labels = {label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")}
    assert not set(names) - page.keys()
    for name in names:
        assert labels <= page[name].keys()
    for name, matchers in re.findall(r"(vigil_\w+)\{([^}]*)\}", expression):
        for label, sign, value in re.findall(r'(\w+)(=~|=)"([^"]*)"', matchers):
            matches = re.compile(value if sign == "=~" else re.escape(value)).fullmatch
            assert any(matches(seen) for seen in page[name][label]), (label, value)


def test_every_metric_is_on_the_dashboard(page):
    shown = {re.sub(r"_(bucket|count|sum|total)$", "", name) for e in EXPRESSIONS for name in re.findall(r"\bvigil_\w+", e)}
    assert {re.sub(r"_(bucket|count|sum|total)$", "", name) for name in page if not name.endswith("_created")} == shown
