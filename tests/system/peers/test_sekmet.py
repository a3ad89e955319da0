"""SEKMET, a hospital system for tests, as a client that gets its tokens by SMART Backend Services.

Its own smoke test asks for more than a server has to offer: a step counts if the CapabilityStatement offers what it needs.
"""

import json
import subprocess
import uuid
from pathlib import Path

import pytest

from tests.system.peers.environments import PROGRAMS, own_environment

# What each step of conformance_smoke needs: type of resource, interaction, and a member of the CapabilityStatement's entry.
STEPS = {
    "CapabilityStatement": None,
    "set": None,
    "Create Patient": ("Patient", "create"),
    "Read Patient": ("Patient", "read"),
    "Conditional create does not duplicate": ("Patient", "create", "conditionalCreate"),
    "Search by identifier finds exactly one": ("Patient", "search-type"),
    "Update with correct If-Match": ("Patient", "update", "versioning"),
    "Stale If-Match is rejected (409/412)": ("Patient", "update", "versioning"),
    "vread first version": ("Patient", "vread"),
    "Instance history": ("Patient", "history-instance"),
    "Transaction with urn:uuid references": ("", "transaction"),
    "Search Observation by patient with _include": ("Observation", "search-type", "searchInclude"),
    "Searchset entries carry search.mode (match / include)": ("Observation", "search-type", "searchInclude"),
    "Answers FHIR XML when asked (Accept application/fhir+xml)": ("Patient", "xml"),
    "Paging returns next link": ("Patient", "search-type"),
    "Invalid resource is rejected": ("Patient", "create"),
    "Delete": ("Patient", "delete"),
    "Read after delete is 410 Gone (or 404)": ("Patient", "delete"),
}
# Where Vigil is right to differ, and why.
DIFFERS = {
    "Search by identifier finds exactly one": "an identifier in a URL would be logged; it goes into the body of POST _search",
    "Stale If-Match is rejected (409/412)": "names are not kept, so that another name makes no new version of a Patient",
    "Paging returns next link": "nobody lists all patients of a hospital",
}
PASSES = {
    "CapabilityStatement",
    "Create Patient",
    "Conditional create does not duplicate",
    "Transaction with urn:uuid references",
}


def is_offered(capabilities, kind, interaction, member=None):
    described = capabilities.get(kind, {})
    codes = {each["code"] for each in described.get("interaction", [])}
    return interaction in codes and (member is None or described.get(member, "no-version") != "no-version")


@pytest.fixture(scope="module")
def run_scenario(server, peer, registered, tmp_path_factory):
    """``run_scenario(name)``: SEKMET runs one of its scenarios, or a file; returns status and message of each step by name."""
    program = Path(peer("sekmet-fhir")).with_name("sekmet")
    folder = tmp_path_factory.mktemp("sekmet")
    key, kid = registered("sekmet", ["system/*.cruds"])
    auth = {"type": "smart", "client_id": "sekmet", "private_key_path": str(key), "kid": kid, "alg": "RS384"}
    settings = {
        "data_dir": str(folder / "data"),
        "own_private_key_path": str(folder / "own.pem"),
        "host": "127.0.0.1",
        "identifiers": {"mrn": f"urn:sekmet:{uuid.uuid4()}"},
        "peers": {"vigil": {"base_url": f"{server}/fhir", "auth": auth}},
    }
    (folder / "settings.yaml").write_text(json.dumps(settings))  # JSON is YAML

    def run(name):
        reports = folder / "reports" / Path(name).stem
        command = [program, "scenario", "run", name, "--peer", "vigil", "--no-serve", "--report-dir", reports]
        done = subprocess.run(
            [*map(str, command), "--config", str(folder / "settings.yaml")],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            cwd=folder,
            env=own_environment(),
        )
        found = list(reports.glob("*/results.json"))
        assert found, done.stdout + done.stderr
        (scenario,) = json.loads(found[0].read_text())
        return {step["name"].strip(): (step["status"], step["message"]) for step in scenario["steps"]}

    return run


def test_smoke_test_finds_no_fault_in_what_is_offered(run_scenario, capabilities):
    steps = run_scenario("conformance_smoke")
    assert set(steps) == set(STEPS)
    counting = {name for name, needed in STEPS.items() if needed is None or is_offered(capabilities, *needed)} - set(DIFFERS)
    assert {name: steps[name] for name in counting if steps[name][0] not in ("passed", "warning", "skipped")} == {}
    assert {name for name in PASSES if steps[name][0] != "passed"} == set()


def test_observations_are_created_updated_and_deleted_as_sekmet_expects(run_scenario):
    steps = run_scenario(str(PROGRAMS / "observations.yaml"))
    assert {name: found for name, found in steps.items() if found[0] != "passed"} == {}
    assert len(steps) == 8


# Scenarios that run once their interaction is offered, and the type and operation that they need.
LATER = {str(PROGRAMS / "bulk_export.yaml"): ("Group", "export")}


@pytest.mark.parametrize("name", LATER, ids=lambda name: Path(name).stem)
def test_scenario_of_what_may_be_offered(run_scenario, capabilities, caller, name):
    kind, operation = LATER[name]
    operations = {each["name"] for each in capabilities.get(kind, {}).get("operation", [])}
    if operation not in operations:
        pytest.skip(f"{kind} ${operation} is not in the CapabilityStatement")
    patients = [{"patient_id": f"sekmet-{uuid.uuid4().hex[:8]}", "ward": "sekmet"}]  # a ward, for its Group
    caller().post("/v1/patients", json={"patients": patients}).raise_for_status()
    steps = run_scenario(name)
    assert {step: found for step, found in steps.items() if found[0] not in ("passed", "warning", "skipped")} == {}
