"""docs/api.md cannot drift: whatever a platform can meet is on it, and what is on it exists."""

import re
from typing import get_args

import pytest

from tests.support import ROOT
from vigil.features.observations import REASONS
from vigil.models.assessment import Finding
from vigil.pipelines.cli.main import app
from vigil.serving.api.problem_types import PROBLEM_TYPES
from vigil.serving.api.schemas.history import MAX_HOURS
from vigil.serving.api.schemas.request import MAX_BODY_BYTES, MAX_OBSERVATIONS, MAX_PATIENTS
from vigil.serving.app import create_app
from vigil.serving.auth.smart_scopes import NEEDED
from vigil.serving.auth.tokens import SCOPES
from vigil.serving.observability.metrics import Metrics
from vigil.serving.records.source_settings import SourceSettings
from vigil.serving.records.timestamps import SKEW
from vigil.serving.records.ward_rows import EventKind
from vigil.serving.records.ward_settings import SafetyNetSettings, WardSettings
from vigil.serving.settings import Settings
from vigil.serving.stream.alarm_updates import RISK_EVENT_FIELDS

PAGE = (ROOT / "docs" / "api.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| `")]

KINDS = set(get_args(EventKind))


def first_cells():
    return {name for row in ROWS for name in re.findall(r"`([^`]+)`", row.split("|")[1])}


def test_every_route_is_there_with_its_scope():
    for path, methods in create_app().openapi()["paths"].items():
        for method, operation in methods.items():
            if not operation["security"]:
                assert f"`{method.upper()} {path}`" in PAGE
                continue
            ((scope,),) = (security["HTTPBearer"] for security in operation["security"])
            assert any(row.startswith(f"| `{method.upper()} {path}` | `{scope}` |") for row in ROWS), (method, path)


def test_no_route_is_there_that_does_not_exist():
    named = {tuple(route) for route in re.findall(r"`(GET|POST) (/v1/[\w/-]+)", PAGE)}
    offered = {
        (m.upper(), path)
        for path, methods in create_app().openapi()["paths"].items()
        for m in methods
        if path.startswith("/v1")
    }
    assert named == offered


@pytest.mark.parametrize(("scope", "allows"), SCOPES.items())
def test_every_scope_is_there(scope, allows):
    assert any(row.startswith(f"| `{scope}` | {allows}") for row in ROWS)


@pytest.mark.parametrize(("scope", "needed"), NEEDED.items())
def test_every_smart_scope_that_is_one_of_ours_is_there(scope, needed):
    assert f"| `{needed[0]}.{needed[1]}` | `{scope}` |" in PAGE


def test_every_setting_is_there():
    assert {f"VIGIL_{name.upper()}" for name in Settings.model_fields} <= first_cells()


def test_every_finding_reason_and_kind_of_event_is_there():
    assert {"alarm", "risk", "silent", "left", "acknowledged"} <= KINDS
    assert {*get_args(Finding), *REASONS, *KINDS} <= first_cells()


def test_everything_an_event_says_of_a_risk_is_there():
    (row,) = [row for row in ROWS if row.startswith("| `risk` |")]
    assert set(re.findall(r"`(\w+)`", row.split("|")[3])) == set(RISK_EVENT_FIELDS)


def test_every_problem_is_there_and_no_other():
    rows = [re.fullmatch(r"\| (\d{3}) \| (.+?) \| .+ \|", line) for line in PAGE.splitlines()]
    statuses = {code: int(row[1]) for row in rows if row for code in re.findall(r"`(\w+)`", row[2])}
    assert statuses == {code: kind.status for code, kind in PROBLEM_TYPES.items()}


def test_every_metric_is_there_with_its_labels():
    metrics = [metric for metric in vars(Metrics()).values() if hasattr(metric, "_labelnames")]
    assert len(metrics) > 5
    for metric in metrics:
        name = metric._name + ("_total" if metric._type == "counter" else "")
        (row,) = [row for row in ROWS if row.startswith(f"| `{name}` |")]
        assert set(re.findall(r"`(\w+)`", row.split("|")[3])) == set(metric._labelnames)


def test_every_term_of_a_ward_is_there():
    (example,) = [text for text in re.findall(r"```toml\n(.+?)```", PAGE, re.DOTALL) if "[wards." in text]
    assert set(re.findall(r"^(\w+) =", example, re.MULTILINE)) == {
        *WardSettings.model_fields,
        *SafetyNetSettings.model_fields,
    } - {"safety_net"}
    assert ".safety_net]" in example


def test_every_declaration_of_a_source_is_there():
    (example,) = [text for text in re.findall(r"```toml\n(.+?)```", PAGE, re.DOTALL) if "[sources." in text]
    assert set(re.findall(r"^(\w+) =", example, re.MULTILINE)) == {*SourceSettings.model_fields}


def test_every_limit_is_there():
    for limit in (f"{MAX_BODY_BYTES:,} bytes", f"| {MAX_OBSERVATIONS:,} |", f"| {MAX_PATIENTS} |", f"| {MAX_HOURS} |"):
        assert limit in PAGE
    assert f"{Settings.model_fields['requests_per_second'].default:,} a second" in PAGE
    assert f"{SKEW.total_seconds():g} s ahead" in PAGE


def test_every_command_that_is_named_exists():
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    commands |= {group.name for group in app.registered_groups}
    named = set(re.findall(r"\bvigil ([a-z-]+)\b", "\n".join(re.findall(r"`[^`]+`|```.+?```", PAGE, re.DOTALL))))
    assert {"serve", "token", "retention"} <= named
    assert named <= commands


def test_every_file_that_is_linked_exists():
    linked = set(re.findall(r"\]\((?!http)([^)#]+)\)", PAGE))
    assert {path for path in linked if not (ROOT / "docs" / path).exists()} == set()
