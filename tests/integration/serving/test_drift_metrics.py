"""Drift metrics: those of the last drift report, whatever state it is in, and never the location of a fault."""

import json
import re
import time

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.support import ROOT
from tests.support.in_process_server import running_in_process
from vigil.serving.composition import _CACHE_SECONDS
from vigil.serving.observability.drift_metrics import STATUS, DriftFigures

PAGE = (ROOT / "docs" / "api.md").read_text()


def finding(fault="stuck", signal="spo2", *where):
    fields = {"fault": fault, "signal": signal, "place": "device", "where": list(where), "since": "2026-02-01T00:00:00+00:00"}
    return fields | {"hit": 2, "of": 9, "evidence": "a device of patient canary-1", "says": "", "remedy": ""}


REPORT = {
    "status": "drift",
    "judged_at": "2026-02-01T12:00:00+00:00",
    "model": {"name": "deterioration", "version": "1"},
    "findings": [finding("stuck", "spo2", "d1"), finding("stuck", "spo2", "d2"), finding("time_zone", None, "gateway-7")],
    "columns": {"share": 0.03, "drifted": ["spo2_last_24h"]},
    "performance": {"estimated": {"auroc": 0.81, "auroc_low": 0.78, "auroc_high": 0.84}, "known": None},
    "decision": {"action": "warn"},
}


def write(home, report):
    (home / "reports").mkdir(parents=True, exist_ok=True)
    text = report if isinstance(report, str | bytes) else json.dumps(report)
    (home / "reports/drift.json").write_bytes(text if isinstance(text, bytes) else text.encode())


def metrics(home):
    """Return values by name and labels."""
    registry = CollectorRegistry()
    registry.register(DriftFigures(home))
    page = generate_latest(registry).decode()
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    return {(sample.name.removeprefix("vigil_drift_"), *sample.labels.values()): sample.value for sample in samples}


def test_metrics_of_a_whole_report(tmp_path):
    write(tmp_path, REPORT)
    assert metrics(tmp_path) == {
        ("status",): 1,
        ("judged_timestamp_seconds",): 1769947200,
        ("faults", "stuck", "spo2"): 2,
        ("faults", "time_zone", ""): 1,
        ("columns_share",): 0.03,
        ("estimated_auroc",): 0.81,
        ("decision_info", "warn"): 1,
    }


@pytest.mark.parametrize("status", STATUS)
def test_metrics_that_a_report_does_not_state_are_absent(tmp_path, status):
    write(tmp_path, {"status": status, "judged_at": REPORT["judged_at"], "performance": {"estimated": None, "known": None}})
    assert metrics(tmp_path) == {("status",): STATUS[status], ("judged_timestamp_seconds",): 1769947200}


def test_metrics_without_a_report_are_none(tmp_path):
    assert metrics(tmp_path) == {}
    (tmp_path / "reports").mkdir()
    assert metrics(tmp_path) == {}


@pytest.mark.parametrize(
    "report",
    [
        "",
        json.dumps(REPORT)[:200],
        b"\xff\xfe",
        "[]",
        {**REPORT, "status": "odd"},
        {**REPORT, "judged_at": "yesterday"},
        {**REPORT, "findings": [{"fault": 3}]},
        {**REPORT, "columns": {"share": "all"}},
        {**REPORT, "decision": {"action": "canary-1"}},
        json.dumps(REPORT).replace("0.81", "NaN"),
    ],
)
def test_unreadable_report_counts_as_a_broken_run(tmp_path, report):
    write(tmp_path, report)
    assert metrics(tmp_path) == {("status",): 2}
    (tmp_path / "reports/drift.json").unlink()
    (tmp_path / "reports/drift.json").mkdir()  # a folder cannot be read either
    assert metrics(tmp_path) == {("status",): 2}


def test_labels_are_names_of_faults_and_signals_only(tmp_path):
    findings = [finding("canary-1", "spo2"), finding("stuck", "canary1"), finding('x"} 1\nvigil_model_info{name="', "spo2\n")]
    write(tmp_path, {**REPORT, "findings": findings})
    faults = {tuple(labels): value for (name, *labels), value in metrics(tmp_path).items() if name == "faults"}
    assert faults == {("other", "spo2"): 1, ("stuck", "other"): 1, ("other", "other"): 1}


def test_metrics_page_follows_the_report(tmp_path):
    with running_in_process(tmp_path) as server:
        assert "vigil_drift" not in server.stranger().get("/metrics").text
        write(tmp_path, REPORT)
        time.sleep(_CACHE_SECONDS)
        page = server.stranger().get("/metrics")
        assert page.status_code == 200
        assert 'vigil_drift_faults{fault="stuck",signal="spo2"} 2.0' in page.text
        assert not re.search(r"canary|d1|gateway-7", page.text)
        write(tmp_path, {**REPORT, "status": "fine", "findings": []})
        time.sleep(_CACHE_SECONDS)
        assert "vigil_drift_status 0.0" in server.stranger().get("/metrics").text


def test_every_drift_metric_is_described_in_the_api_page(tmp_path):
    write(tmp_path, REPORT)
    for metric in DriftFigures(tmp_path).collect():
        (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{metric.name}` |")]
        (labels,) = {tuple(sample.labels) for sample in metric.samples}
        assert re.findall(r"`(\w+)`", row.split("|")[3]) == list(labels)
