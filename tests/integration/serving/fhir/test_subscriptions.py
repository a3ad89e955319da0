"""Subscriptions end to end: a client subscribes, the rescorer makes events, and an endpoint is told."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.in_process_server import SICK, WELL, observations_body, running_in_process
from tests.support.receiver import ALARM, receiving, register, subscription, write_certificate
from vigil.serving.composition import open_deliverer
from vigil.serving.fhir.outcomes import BASE
from vigil.serving.observability.metrics import Metrics
from vigil.serving.records import connection_tables
from vigil.serving.records.database import open_database, reading, writing
from vigil.serving.records.subscriptions import Subscriptions
from vigil.serving.records.ward_tables import EVENTS
from vigil.serving.scoring.champion import Champion
from vigil.serving.settings import Settings

PATH = f"{BASE}/Subscription"
RISKS_ONLY = ["system/Subscription.cruds", "system/RiskAssessment.rs"]


@pytest.fixture
def receiver():
    with receiving() as endpoint:
        yield endpoint


@pytest.fixture
def server(tmp_path, receiver):
    register(tmp_path, receiver.url)
    with running_in_process(tmp_path) as running:
        running.deliverer.start()
        yield running


def send(server, patient, values=SICK, ward="B4", **facts):
    caller = server.caller()
    facts = {"patient_id": patient, "ward": ward, **facts}
    caller.post("/v1/patients", json={"patients": [facts]}).raise_for_status()
    caller.post("/v1/observations", json=observations_body(patient, values)).raise_for_status()
    server.rescore()


def reference(server, patient):
    return server.components.directory.reference(server.components.pseudonyms.subject_key(patient))


def client(server, name="ehr", **caller):
    return server.caller(subject=name, **caller)


def create(server, resource, **caller):
    answer = client(server, **caller).post(PATH, json=resource)
    assert answer.status_code == 201, answer.text
    return answer.json()


def read(server, created):
    return client(server).get(f"{PATH}/{created['id']}").json()


def status(server, created):
    """Return the parameters of ``$status`` by name."""
    (entry,) = client(server).get(f"{PATH}/{created['id']}/$status").json()["entry"]
    return {each["name"]: each for each in entry["resource"]["parameter"]}


def change(server, created, **changes):
    answer = client(server).put(f"{PATH}/{created['id']}", json=read(server, created) | changes)
    assert answer.status_code == 200, answer.text
    return answer.json()


def wait_until(condition, seconds=15):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_numbered(server, created, ward):
    """Return whether the deliverer has looked at all events of a ward."""
    stored = Subscriptions(open_database(server.home, connection_tables.SCHEMA)).find(created["id"])
    return stored.positions.get(ward) == server.components.ward_state.last_events().get(ward)


def activate(server, receiver, resource=None, **caller):
    """Create a subscription, and wait until it is active."""
    created = create(server, resource or subscription(receiver.url), **caller)
    wait_until(lambda: read(server, created)["status"] == "active")
    return created


def test_endpoint_is_told_of_a_changed_risk(server, receiver):
    created = create(server, subscription(f"{receiver.url}7", header=["Authorization: Bearer secret-7"]))
    assert (created["status"], created["meta"]["versionId"]) == ("requested", "1")
    (handshake,) = receiver.wait_for("handshake")
    assert (handshake.path, handshake.headers["Authorization"]) == ("/hooks/7", "Bearer secret-7")
    assert handshake.headers["Content-Type"] == "application/fhir+json"
    assert (handshake.count, handshake.events) == (0, [])
    wait_until(lambda: read(server, created)["status"] == "active")
    send(server, "4711")
    (told,) = receiver.wait_for("event-notification")
    (event,) = told.events
    assert (event["event-number"], told.count) == ("1", 1)
    assert event["additional-context"]["reference"].endswith(f"/fhir/{reference(server, '4711')}")
    risk = server.caller().get("/fhir/RiskAssessment", params={"patient": reference(server, "4711")}).json()
    assert event["focus"]["reference"].endswith(f"/fhir/RiskAssessment/{risk['entry'][0]['resource']['id']}")
    focus = client(server).get(f"/fhir/{event['focus']['reference'].partition('/fhir/')[2]}").json()
    assert (focus["resourceType"], focus["subject"]["reference"]) == ("RiskAssessment", reference(server, "4711"))
    assert "4711" not in str(told.bundle).replace(event["focus"]["reference"], "")


@pytest.mark.parametrize(("content", "has_focus"), [("empty", False), ("id-only", True), ("full-resource", True)])
def test_notification_holds_as_much_as_was_asked_for(server, receiver, content, has_focus):
    activate(server, receiver, subscription(receiver.url, content=content))
    send(server, "4711")
    (told,) = receiver.wait_for("event-notification")
    (event,) = told.events
    assert ("focus" in event, "additional-context" in event) == (has_focus, has_focus)
    assert any(each["name"] == "topic" for each in told.status["parameter"]) is has_focus
    if content != "full-resource":
        assert told.resources == []
        return
    (risk,) = told.resources
    assert (risk["resourceType"], risk["subject"]["reference"]) == ("RiskAssessment", reference(server, "4711"))
    assert event["focus"]["reference"].endswith(f"RiskAssessment/{risk['id']}")


def test_alarms_are_told_from_opening_to_end(server, receiver):
    activate(server, receiver, subscription(receiver.url, topic=ALARM, content="full-resource"))
    send(server, "4711")
    caller = server.caller()
    (alarm,) = caller.get("/v1/alarms").json()["alarms"]
    caller.post("/v1/alarms/acknowledge", json={"alarm_id": alarm["alarm_id"]}).raise_for_status()
    caller.post("/v1/alarms/override", json={"alarm_id": alarm["alarm_id"], "reason": "artefact"}).raise_for_status()
    caller.post("/v1/patients", json={"patients": [{"patient_id": "4711", "ward": "B4", "discharged": True}]})
    server.rescore()
    receiver.wait(lambda _: receiver.numbers() == [1, 2, 3, 4])
    focuses = {event["focus"]["reference"].rpartition("/fhir/")[2] for each in receiver.received for event in each.events}
    assert focuses == {f"DetectedIssue/{alarm['alarm_id']}"}
    last = receiver.received[-1].resources[-1]
    assert last == client(server).get(f"/fhir/DetectedIssue/{alarm['alarm_id']}").json()
    assert (last["status"], last["patient"]["reference"]) == ("final", reference(server, "4711"))
    kinds = [event.kind for event in server.components.ward_state.events("B4", 0, 100)]
    assert kinds == ["risk", "alarm", "acknowledged", "overridden", "alarm_ended", "left"]


def test_heartbeat_is_sent_in_silence(server, receiver):
    activate(server, receiver, subscription(receiver.url, heartbeat=1))
    first, second = receiver.wait_for("heartbeat", 2)
    assert 0.9 < second.at - first.at < 4
    assert (first.count, first.value("status"), first.events) == (0, "active", [])


def test_what_fails_is_tried_again_until_it_is_taken_and_comes_in_order(server, receiver, caplog):
    created = activate(server, receiver, subscription(receiver.url, header=["X-Key: secret-7"]))
    receiver.answer = lambda _: 503
    for patient in ("a", "b", "c"):
        send(server, patient)
    wait_until(lambda: read(server, created)["status"] == "error")
    assert read(server, created)["error"] == "HTTP 503"
    wait_until(lambda: status(server, created)["events-since-subscription-start"]["valueString"] == "3")
    shown = status(server, created)
    assert (shown["status"]["valueCode"], shown["type"]["valueCode"]) == ("error", "query-status")
    receiver.received.clear()
    receiver.answer = lambda _: 200
    receiver.wait(lambda _: receiver.numbers() == [1, 2, 3])
    wait_until(lambda: read(server, created)["status"] == "active")
    assert "error" not in read(server, created)
    assert "secret-7" not in caplog.text
    assert receiver.url not in caplog.text


def test_an_endpoint_that_does_not_answer_delays_no_other(server, receiver):
    with receiving() as slow:
        register(server.home, receiver.url, slow.url)
        slow.answer = lambda _: time.sleep(3) or 200
        waiting = create(server, subscription(slow.url, timeout=1))
        activate(server, receiver)
        started = time.monotonic()
        send(server, "4711")
        receiver.wait_for("event-notification")
        assert time.monotonic() - started < 3
        wait_until(lambda: read(server, waiting)["status"] == "error")
        assert read(server, waiting)["error"] == "no answer within 1 s"
        slow.answer = lambda _: 200
        slow.wait_for("event-notification")


def test_events_of_a_notification_are_at_most_as_many_as_asked_for(server, receiver):
    created = activate(server, receiver, subscription(receiver.url, max_count=2))
    receiver.answer = lambda _: 500
    for patient in "abcde":
        send(server, patient)
    wait_until(lambda: read(server, created)["status"] == "error")
    receiver.received.clear()
    receiver.answer = lambda _: 200
    receiver.wait(lambda _: receiver.numbers() == [1, 2, 3, 4, 5])
    assert [(each.numbers, each.count) for each in receiver.received if each.events] == [([1, 2], 2), ([3, 4], 4), ([5], 5)]


def test_off_ends_delivery_and_requested_goes_on_with_what_happens_then(server, receiver):
    created = activate(server, receiver)
    assert change(server, created, status="off")["status"] == "off"
    send(server, "a")
    assert change(server, created, status="requested")["meta"]["versionId"] == "3"
    receiver.wait_for("handshake", 2)
    wait_until(lambda: read(server, created)["status"] == "active")
    send(server, "b")
    (told,) = receiver.wait_for("event-notification")
    assert told.numbers == [1]
    assert told.events[0]["additional-context"]["reference"].endswith(reference(server, "b"))
    assert client(server).delete(f"{PATH}/{created['id']}").status_code == 204
    assert client(server).get(f"{PATH}/{created['id']}").status_code == 404
    send(server, "c")
    time.sleep(1)
    assert receiver.numbers() == [1]


def test_subscription_ends_in_time(server, receiver):
    end = (datetime.now(UTC) + timedelta(seconds=4)).isoformat(timespec="seconds")
    created = create(server, subscription(receiver.url, heartbeat=1) | {"end": end})
    wait_until(lambda: read(server, created)["status"] == "off")
    assert change(server, created, status="off")["meta"]["versionId"] == "2"
    send(server, "a")
    time.sleep(0.6)
    assert receiver.numbers() == []


def test_events_can_be_asked_for_again(server, receiver):
    created = activate(server, receiver)
    for patient in ("a", "b", "c"):
        send(server, patient)
    receiver.wait(lambda _: receiver.numbers() == [1, 2, 3])
    base = f"{PATH}/{created['id']}/$events"
    body = {"resourceType": "Parameters", "parameter": [{"name": "eventsSinceNumber", "valueString": "2"}]}
    answers = [
        client(server).get(base),
        client(server).get(base, params={"eventsSinceNumber": 2, "eventsUntilNumber": 2}),
        client(server).post(base, json=body),
        client(server).get(base, params={"eventsSinceNumber": 4}),
        client(server).get(base, params={"content": "full-resource", "eventsUntilNumber": 1}),
    ]
    bundles = [answer.json() for answer in answers]
    assert {bundle["type"] for bundle in bundles} == {"history"}
    told = [
        [part["valueString"] for each in bundle["entry"][0]["resource"]["parameter"] for part in each.get("part", [])[:1]]
        for bundle in bundles
    ]
    assert told == [["1", "2", "3"], ["2"], ["2", "3"], [], ["1"]]
    assert bundles[4]["entry"][1]["resource"]["resourceType"] == "RiskAssessment"
    for wrong in ({"eventsSinceNumber": "-1"}, {"eventsSinceNumber": "x"}, {"content": "all"}, {"since": "1"}):
        assert client(server).get(base, params=wrong).status_code == 400


def test_filters_narrow_what_is_told(server, receiver):
    send(server, "a")
    send(server, "b", ward="C1")
    activate(server, receiver, subscription(f"{receiver.url}a", filters=[f"RiskAssessment?patient={reference(server, 'a')}"]))
    activate(server, receiver, subscription(f"{receiver.url}c1", filters=["ward=C1,C2"]))
    send(server, "a", WELL)
    send(server, "b", WELL, ward="C1")
    send(server, "c", ward="C2")
    receiver.wait(lambda received: sum(len(each.events) for each in received) == 3)
    told = [
        (each.path, event["additional-context"]["reference"].rpartition("/fhir/")[2])
        for each in receiver.received
        for event in each.events
    ]
    assert sorted(told) == sorted(
        [("/hooks/a", reference(server, "a")), ("/hooks/c1", reference(server, "b")), ("/hooks/c1", reference(server, "c"))]
    )


def test_filter_follows_a_patient_who_is_merged(server, receiver):
    send(server, "a")
    send(server, "b", WELL)
    created = activate(server, receiver, subscription(receiver.url, filters=[f"patient={reference(server, 'a')}"]))
    server.components.ingestion.merge("a", "b", server.components.tokens.verify(bearer(client(server))))
    server.rescore()
    send(server, "b", {"heart_rate": 150})
    receiver.wait_for("event-notification")
    (filter_,) = read(server, created)["_criteria"]["extension"]
    assert filter_["valueString"] == f"RiskAssessment?patient={reference(server, 'a')}"


def bearer(caller):
    return caller.headers["Authorization"].removeprefix("Bearer ")


def test_client_sees_its_own_subscriptions_only(server, receiver):
    register(server.home, receiver.url, clients={name: (["system/*.cruds"], None) for name in ("ehr", "other")})
    created = create(server, subscription(receiver.url))
    other = client(server, "other")
    path = f"{PATH}/{created['id']}"
    assert [other.get(f"{path}{tail}").status_code for tail in ("", "/$status", "/$events")] == [404, 404, 404]
    assert other.put(path, json=created).status_code == 404
    assert (other.delete(path).status_code, client(server).get(path).status_code) == (204, 200)
    assert (other.get(PATH).json()["total"], other.get(f"{PATH}/$status").json()["total"]) == (0, 0)
    own = client(server)
    wait_until(lambda: read(server, created)["status"] == "active")
    for query, total in (
        ("status=active", 1),
        ("status=off", 0),
        (f"url={receiver.url}", 1),
        ("url=https://x.example/", 0),
        ("", 1),
    ):
        assert own.get(f"{PATH}?{query}").json()["total"] == total, query
        assert own.post(f"{PATH}/_search", content=query, headers=FORM).json()["total"] == total, query
    assert own.get(f"{PATH}?status:not=active").status_code == 400
    assert own.get(f"{PATH}/$status", params={"id": created["id"], "status": "active"}).json()["total"] == 1
    assert own.get(f"{PATH}/$status", params={"status": "off"}).json()["total"] == 0


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def test_only_registered_clients_may_subscribe_and_to_what_they_may_read(server, receiver):
    clients = {"ehr": (["system/*.cruds"], None), "risks": (RISKS_ONLY, None), "none": (["system/Subscription.cruds"], None)}
    register(server.home, receiver.url, clients=clients)
    risks, alarms = subscription(receiver.url), subscription(receiver.url, topic=ALARM)
    assert client(server, "stranger").post(PATH, json=risks).status_code == 403
    assert [client(server, "risks").post(PATH, json=each).status_code for each in (risks, alarms)] == [201, 403]
    assert client(server, "none").post(PATH, json=risks).status_code == 403
    narrow = {scope: client(server, scopes=[scope]) for scope in ("risk:read", "alarms:read", "ward:read")}
    answers = {
        scope: [caller.post(PATH, json=each).status_code for each in (risks, alarms)] for scope, caller in narrow.items()
    }
    assert answers == {"risk:read": [201, 403], "alarms:read": [403, 201], "ward:read": [403, 403]}


def test_ward_of_the_token_limits_what_is_told_and_filtered(server, receiver):
    send(server, "b", ward="C1")
    clerk = {"wards": ["B4"]}
    activate(server, receiver, **clerk)
    refused = [
        client(server, **clerk).post(PATH, json=subscription(receiver.url, filters=[text]))
        for text in ("ward=C1", f"patient={reference(server, 'b')}", "patient=Patient/nobody")
    ]
    assert [answer.status_code for answer in refused] == [403, 422, 422]
    assert refused[1].json() == refused[2].json()
    send(server, "b", WELL, ward="C1")
    send(server, "a")
    (told,) = receiver.wait_for("event-notification")
    assert told.events[0]["additional-context"]["reference"].endswith(reference(server, "a"))
    assert receiver.numbers() == [1]


def test_what_the_registration_no_longer_allows_is_not_told(server, receiver):
    created = activate(server, receiver)
    register(server.home, receiver.url, clients={"ehr": (["system/*.cruds"], ["C1"])})
    send(server, "a")
    send(server, "b", ward="C1")
    (told,) = receiver.wait_for("event-notification")
    assert told.events[0]["additional-context"]["reference"].endswith(reference(server, "b"))
    register(server.home, receiver.url, clients={"other": (["system/*.cruds"], None)})
    send(server, "c", ward="C1")
    wait_until(lambda: read(server, created)["status"] == "error", seconds=20)
    wait_until(lambda: is_numbered(server, created, "C1"))  # and so passed over, before the client is registered again
    assert "registration" in read(server, created)["error"]
    assert receiver.numbers() == [1]
    assert client(server).get(f"{PATH}/{created['id']}/$events").status_code == 403
    register(server.home, receiver.url)
    wait_until(lambda: read(server, created)["status"] == "active", seconds=40)
    assert receiver.numbers() == [1]


def test_events_that_wait_are_not_told_once_their_ward_is_taken_away(server, receiver):
    created = activate(server, receiver)
    receiver.answer = lambda _: 500
    send(server, "a")
    send(server, "b", ward="C1")
    wait_until(lambda: read(server, created)["status"] == "error")
    register(server.home, receiver.url, clients={"ehr": (["system/*.cruds"], ["C1"])})
    receiver.received.clear()
    receiver.answer = lambda _: 200
    receiver.wait_for("event-notification")
    assert receiver.numbers() == [2]


def test_risk_of_a_patient_who_has_left_for_another_ward_is_not_sent_whole(server, receiver):
    created = activate(server, receiver, subscription(receiver.url, content="full-resource"), wards=["B4"])
    receiver.answer = lambda _: 500
    send(server, "a")
    wait_until(lambda: read(server, created)["status"] == "error")
    send(server, "a", ward="C1")
    receiver.received.clear()
    receiver.answer = lambda _: 200
    (told,) = receiver.wait_for("event-notification")
    assert (told.numbers, told.resources) == ([1], [])


def test_endpoint_is_not_asked_again_once_it_is_not_listed(server, receiver):
    created = activate(server, receiver)
    register(server.home, "https://ehr.example/")
    send(server, "a")
    wait_until(lambda: read(server, created)["status"] == "error")
    assert "subscription_endpoints" in read(server, created)["error"]
    assert receiver.numbers() == []


def test_redirect_is_not_followed(server, receiver):
    with receiving() as elsewhere:
        receiver.answer, receiver.location = (lambda _: 307), elsewhere.url
        created = create(server, subscription(receiver.url))
        wait_until(lambda: read(server, created)["status"] == "error")
        assert read(server, created)["error"] == "HTTP 307"
        assert elsewhere.received == []


def test_certificate_of_the_endpoint_is_verified(server):
    server.deliverer.stop()
    certificate = write_certificate(server.home / "own.pem")
    with receiving(certificate) as secure:
        register(server.home, secure.url)
        created = create(server, subscription(secure.url))
        unknown = restart(server)
        wait_until(lambda: read(server, created)["status"] == "error")
        unknown.stop()
        assert (read(server, created)["error"], secure.received) == ("no connection", [])
        settings = server.home / "fhir.toml"
        settings.write_text(settings.read_text() + 'subscription_ca_file = "own.pem"\n')
        known = restart(server)
        try:
            secure.wait_for("handshake")
            wait_until(lambda: read(server, created)["status"] == "active")
        finally:
            known.stop()


def test_proxies_of_the_environment_are_not_used(server, receiver, monkeypatch):
    server.deliverer.stop()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    created = create(server, subscription(receiver.url))
    again = restart(server)
    try:
        wait_until(lambda: read(server, created)["status"] == "active")
    finally:
        again.stop()


def test_secret_of_the_header_stays_secret(server, receiver):
    created = activate(server, receiver, subscription(receiver.url, header=["Authorization: Bearer secret-7"]))
    path = f"{PATH}/{created['id']}"
    shown = [created, read(server, created), client(server).get(PATH).json(), client(server).get(f"{path}/$status").json()]
    assert not any("secret-7" in str(each) or "header" in str(each) for each in shown)
    assert not any(b"secret-7" in file.read_bytes() for file in server.home.glob("connections.db*"))
    assert change(server, created, reason="another")["meta"]["versionId"] == "2"  # sent back as it was read
    assert receiver.wait_for("handshake", 2)[1].headers["Authorization"] == "Bearer secret-7"
    changed = read(server, created)
    changed["channel"]["endpoint"] += "elsewhere"
    assert client(server).put(path, json=changed).status_code == 200
    assert "Authorization" not in receiver.wait_for("handshake", 3)[2].headers


def test_version_that_was_changed_meanwhile_is_refused(server, receiver):
    created = create(server, subscription(receiver.url))
    path = f"{PATH}/{created['id']}"
    answers = [client(server).put(path, json=created, headers={"If-Match": 'W/"1"'}).status_code for _ in range(2)]
    assert answers == [200, 412]
    other = subscription(receiver.url, topic=ALARM) | {"id": created["id"]}
    assert client(server).put(path, json=other).status_code == 422
    assert client(server).put(path, json=created | {"id": "other"}).status_code == 400


def test_events_that_retention_took_before_they_were_delivered_are_told_as_lost(server, receiver):
    created = activate(server, receiver)
    receiver.answer = lambda _: 500
    for patient in ("a", "b"):
        send(server, patient)
    wait_until(lambda: read(server, created)["status"] == "error")
    with writing(server.components.ward_state._engine) as connection:
        connection.execute(EVENTS.delete())
    receiver.received.clear()
    receiver.answer = lambda _: 200
    send(server, "c")
    (told,) = receiver.wait_for("event-notification")
    assert (told.numbers, told.count, told.value("status")) == ([3], 3, "error")
    assert told.texts("error") == ["2 events were deleted before they could be delivered; their numbers are missing"]
    wait_until(lambda: read(server, created)["error"] == told.texts("error")[0])
    assert read(server, created)["status"] == "error"
    events = client(server).get(f"{PATH}/{created['id']}/$events").json()["entry"][0]["resource"]
    assert {"name": "error", "valueCodeableConcept": {"text": "2 of these events are not stored any more"}} in events[
        "parameter"
    ]
    change(server, created, status="requested")
    wait_until(lambda: read(server, created)["status"] == "active")
    assert "error" not in read(server, created)


def test_events_that_were_deleted_before_they_had_a_number_leave_a_gap(server, receiver):
    activate(server, receiver)
    send(server, "a")
    receiver.wait(lambda _: receiver.numbers() == [1])
    server.deliverer.stop()
    for patient in ("b", "c"):
        send(server, patient)
    with writing(server.components.ward_state._engine) as connection:
        first = min(event.number for event in server.components.ward_state.events("B4", 2, 1))
        connection.execute(EVENTS.delete().where(EVENTS.c.number == first))
    again = restart(server)
    try:
        told = receiver.wait_for("event-notification", 2)[1]
        assert told.numbers == [3]
        assert "1 events were deleted" in told.texts("error")[0]
    finally:
        again.stop()


def restart(server):
    """Start another deliverer, as a new process has it."""
    deliverer = open_deliverer(Settings(home=server.home), Metrics(), Champion(server.home, "deterioration"))
    deliverer.start()
    return deliverer


def test_restart_goes_on_where_the_last_one_stopped(server, receiver):
    activate(server, receiver)
    send(server, "a")
    receiver.wait(lambda _: receiver.numbers() == [1])
    server.deliverer.stop()
    send(server, "b")
    again = restart(server)
    try:
        receiver.wait(lambda _: receiver.numbers() == [1, 2])
        assert [each.kind for each in receiver.received].count("handshake") == 1
    finally:
        again.stop()


def test_deliveries_are_counted(server, receiver):
    activate(server, receiver)
    receiver.answer = lambda _: 500
    send(server, "a")
    receiver.wait_for("event-notification", 2)
    page = server.stranger().get("/metrics").text
    figures = dict(line.rsplit(" ", 1) for line in page.splitlines() if line.startswith("vigil_notifications"))
    assert float(figures['vigil_notifications_total{result="delivered"}']) == 1
    assert float(figures['vigil_notifications_total{result="failed"}']) >= 1
    assert float(figures["vigil_notifications_waiting"]) == 1


def test_number_of_subscriptions_is_limited(server, receiver):
    for _ in range(20):
        create(server, subscription(receiver.url, status="requested"))
    answer = client(server).post(PATH, json=subscription(receiver.url))
    assert answer.status_code == 422
    assert "at most 20" in answer.json()["issue"][0]["diagnostics"]


def test_condition_is_refused_where_it_would_be_ignored(server, receiver):
    answer = client(server).post(PATH, json=subscription(receiver.url), headers={"If-None-Exist": "identifier=urn:x|7"})
    assert answer.status_code == 400
    assert client(server).get(PATH).json()["total"] == 0


def test_subscriptions_are_not_written_by_bundles(server, receiver):
    entry = {"request": {"method": "POST", "url": "Subscription"}, "resource": subscription(receiver.url)}
    answer = client(server).post(BASE, json={"resourceType": "Bundle", "type": "batch", "entry": [entry]})
    assert answer.json()["entry"][0]["response"]["status"] == "404"


def test_metadata_names_topics_and_operations(server):
    resources = {each["type"]: each for each in server.stranger().get("/fhir/metadata").json()["rest"][0]["resource"]}
    offered = resources["Subscription"]
    assert {each["code"] for each in offered["interaction"]} == {"read", "create", "update", "delete", "search-type"}
    assert {each["name"] for each in offered["operation"]} == {"status", "events"}
    assert {each["valueCanonical"] for each in offered["extension"]} == {"urn:vigil:topic:risk-changed", ALARM}


def test_nothing_of_patients_is_stored_but_pseudonyms(server, receiver):
    send(server, "mrn-4711")
    activate(server, receiver, subscription(receiver.url, filters=[f"patient={reference(server, 'mrn-4711')}"]))
    send(server, "mrn-4711", WELL)
    receiver.wait_for("event-notification")
    with reading(server.components.subscriptions.subscriptions._engine) as connection:
        tables = (connection_tables.SUBSCRIPTIONS, connection_tables.SUBSCRIPTION_EVENTS)
        rows = str([connection.execute(table.select()).all() for table in tables])
    assert "mrn-4711" not in rows
