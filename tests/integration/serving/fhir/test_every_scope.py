"""Every FHIR route with every scope: a token of one scope may do what that scope allows, and nothing else.

The routes are those of the application, and what each needs follows from its method and path. A route of another form, such as
an operation, is added to :data:`OTHERS`.
"""

import re

import pytest

from tests.support.fhir_mutations import bundle, resources
from tests.support.in_process_server import running_in_process
from vigil.serving.auth.smart_scopes import INTERACTIONS, NEEDED, PERMISSIONS
from vigil.serving.auth.smart_scopes import RESOURCES as SMART_RESOURCES
from vigil.serving.cds_hooks.service import SERVICES
from vigil.serving.fhir.exports.content import KINDS
from vigil.serving.fhir.interactions import RESOURCES
from vigil.serving.fhir.routes import ROUTERS

ROUTES = {(method, route.path) for router in ROUTERS for route in router.routes for method in route.methods}
OPEN = {("GET", "/fhir/metadata")}  # need no token
BUNDLES = {("POST", "/fhir"), ("POST", "/fhir/")}  # what an entry needs is its own
# An export is of what the token may read and search of some types, and is its client's afterwards.
EXPORTS = {(method, f"/fhir/{path}$export") for path in ("Group/{id}/", "Patient/", "") for method in ("GET", "POST")}
OF_EXPORTS = {("GET", "/fhir/exports/{id}"), ("DELETE", "/fhir/exports/{id}"), ("GET", "/fhir/exports/{id}/{file}")}
OPERATIONS = ("RiskAssessment/{id}/$verify", "Subscription/$status", "Subscription/{id}/$status", "Subscription/{id}/$events")
OTHERS = {  # routes of another form, with the type and the letter that they need; operations are no interactions
    (method, f"/fhir/{path}"): (path.partition("/")[0], "r", None) for path in OPERATIONS for method in ("GET", "POST")
}
FORMS = (
    (r"POST /fhir/(?P<type>\w+)/_search", "s", "search-type"),
    (r"GET /fhir/(?P<type>\w+)", "s", "search-type"),
    (r"POST /fhir/(?P<type>\w+)", "c", "create"),
    (r"GET /fhir/(?P<type>\w+)/{id}", "r", "read"),
    (r"GET /fhir/(?P<type>\w+)/{id}/_history/{\w+}", "r", "vread"),
    (r"PUT /fhir/(?P<type>\w+)", "u", "update"),
    (r"PUT /fhir/(?P<type>\w+)/{id}", "u", "update"),
    (r"PATCH /fhir/(?P<type>\w+)/{id}", "u", "patch"),
    (r"DELETE /fhir/(?P<type>\w+)/{id}", "d", "delete"),
)
# Every scope of Vigil, and every SMART scope of one interaction with one type, with what it allows.
SCOPES = {scope: {kind: frozenset(letters) for kind, letters in allowed.items()} for scope, allowed in PERMISSIONS.items()}
SCOPES |= {f"system/{kind}.{letter}": {kind: frozenset(letter)} for kind in SMART_RESOURCES for letter in INTERACTIONS}


def need_of(method, path):
    """Return the type, the letter of its scope, and the interaction that a route needs; None: its form is not known."""
    if (method, path) in OTHERS:
        return OTHERS[method, path]
    for pattern, letter, interaction in FORMS:
        if (match := re.fullmatch(pattern, f"{method} {path}")) is not None:
            return match["type"], letter, interaction
    return None


NEEDS = {route: need_of(*route) for route in sorted(ROUTES - OPEN - BUNDLES - EXPORTS - OF_EXPORTS)}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("scopes")
    (home / "fhir.toml").write_text('patient_system = "urn:mrn"\n')
    with running_in_process(home) as running:
        everything = running.caller()
        for kind in ("Patient", "Observation"):
            for resource in resources()[kind]:
                everything.put(f"/fhir/{kind}/o-1", json=resource).raise_for_status()
        everything.put("/fhir/Encounter/o-1", json=resources()["Encounter"][0]).raise_for_status()
        yield running


@pytest.fixture(scope="module")
def callers(server):
    return {scope: server.caller([scope], subject=f"caller of {scope}") for scope in SCOPES}


def ask(client, method, path):
    kind = path.split("/")[2]
    path = re.sub(r"{\w+}", "o-1", path) + (f"?identifier=urn:mrn|{path}" if (method, path) == ("PUT", f"/fhir/{kind}") else "")
    if path.endswith("/_search"):
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        return client.post(path, content=b"patient=o-1", headers=form)
    if method in ("POST", "PUT"):
        resource = resources().get(kind, [{"resourceType": kind, "id": "o-1"}])[0]
        return client.request(method, path, json=resource)
    return client.request(method, f"{path}?patient=o-1" if (method, path) == ("GET", f"/fhir/{kind}") else path)


def test_what_each_route_needs_is_known():
    assert [route for route, need in NEEDS.items() if need is None] == []  # add it to OTHERS
    assert len(NEEDS) >= 11


def test_the_list_of_interactions_is_what_the_routes_offer():
    by_routes = {(kind, interaction) for kind, _, interaction in NEEDS.values() if interaction is not None}
    assert {(offered.type, code) for offered in RESOURCES for code in offered.interactions} == by_routes


@pytest.mark.parametrize(("method", "path"), NEEDS)
def test_route_is_open_to_the_scopes_that_allow_it_and_to_no_others(callers, method, path):
    kind, letter, _ = NEEDS[method, path]
    allowed = {scope for scope, permissions in SCOPES.items() if letter in permissions.get(kind, ())}
    statuses = {scope: ask(client, method, path).status_code for scope, client in callers.items()}
    assert allowed
    assert {scope for scope, status in statuses.items() if status == 403} == SCOPES.keys() - allowed
    assert {status for scope, status in statuses.items() if scope in allowed} & {401, 405, 429, 500, 503} == set()


def test_export_is_open_to_scopes_that_read_and_search_a_type(server, callers):
    group = server.caller().get("/fhir/Group").json()["entry"][0]["resource"]["id"]
    for method, path in sorted(EXPORTS):
        asked = {"json": {"resourceType": "Parameters"}} if method == "POST" else {}
        for scope, client in callers.items():
            url = path.replace("{id}", group)
            answer = client.request(method, url, headers={"Prefer": "respond-async"}, **asked)
            is_allowed = any({"r", "s"} <= set(SCOPES[scope].get(kind, ())) for kind in KINDS)
            assert answer.status_code == (202 if is_allowed else 403), (scope, path)
            if is_allowed:
                assert client.delete(answer.headers["Content-Location"]).status_code == 202


def test_exports_of_others_are_unknown_to_every_scope(server, callers):
    answer = server.caller().get("/fhir/Patient/$export", headers={"Prefer": "respond-async"})
    name = answer.headers["Content-Location"].rpartition("/")[2]
    for method, path in OF_EXPORTS:
        url = path.replace("{id}", name).replace("{file}", "Patient.1.ndjson")
        assert {client.request(method, url).status_code for client in callers.values()} == {404}


def test_route_is_closed_to_who_has_no_token(server):
    stranger = server.stranger()
    assert {ask(stranger, *route).status_code for route in [*NEEDS, *EXPORTS, *OF_EXPORTS]} == {401}
    assert {stranger.post("/fhir", json=bundle()).status_code, stranger.post("/fhir/", json=bundle()).status_code} == {401}
    assert stranger.get("/fhir/metadata").status_code == 200


@pytest.mark.parametrize("scope", SCOPES)
def test_entry_of_a_batch_is_open_to_the_scopes_that_allow_it(callers, scope):
    sent = bundle()
    answer = callers[scope].post("/fhir", json=sent)
    assert answer.status_code == 200
    letters = {"POST": "c", "PUT": "u", "DELETE": "d"}
    for entry, answered in zip(sent["entry"], answer.json()["entry"], strict=True):
        kind = re.split(r"[/?]", entry["request"]["url"])[0]
        is_allowed = letters[entry["request"]["method"]] in SCOPES[scope].get(kind, ())
        assert (answered["response"]["status"] != "403") == is_allowed, (kind, entry["request"]["method"])


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("suffix", ["", "/feedback"])
def test_call_of_cds_hooks_is_open_to_those_who_may_read_risks(server, callers, service, suffix):
    statuses = {
        scope: client.post(f"/cds-services/{service}{suffix}", json={}).status_code for scope, client in callers.items()
    }
    assert {scope for scope, status in statuses.items() if status != 403} == {"risk:read"}
    both = server.caller(["system/RiskAssessment.rs"], subject=f"{service}{suffix}")
    assert both.post(f"/cds-services/{service}{suffix}", json={}).status_code == 400
    assert NEEDED["risk:read"] == ("RiskAssessment", "rs")
