"""Subscription: what of it is understood, what is refused and why, and what is read back."""

import copy
import json

import pytest
from hypothesis import given, settings

from tests.support import ROOT
from tests.support.fhir_mutations import CANARY, changed
from tests.support.receiver import ALARM, BACKPORT, RISK_CHANGED, subscription
from vigil.serving.fhir.outcomes import FhirError
from vigil.serving.fhir.subscriptions.endpoints import find_allowed
from vigil.serving.fhir.subscriptions.header import open_header, seal_header
from vigil.serving.fhir.subscriptions.notifications import Told, notification, status_bundle, status_parameters
from vigil.serving.fhir.subscriptions.resource import read_subscription, shown_status, to_resource
from vigil.serving.fhir.subscriptions.topics import TOPICS
from vigil.serving.records.subscriptions import Subscription
from vigil.serving.records.ward_rows import NumberedEvent

URL = "https://ehr.example/hooks/7"
KNOWN = {"Patient/abc": "subject-a", "Patient/def": "subject-d"}


def read(resource):
    return read_subscription(resource, KNOWN.get, lambda url: find_allowed(url, ["https://ehr.example/"]))


def stored(resource, **progress):
    wanted, status, _ = read(resource)
    fields = {name: getattr(wanted, name) for name in type(wanted).__dataclass_fields__}
    return Subscription(**fields | {"id": "s", "client": "ehr", "updated_at": 0, "status": status, "positions": {}} | progress)


def with_channel(**changes):
    resource = subscription(URL)
    resource["channel"] |= changes
    return {**resource, "channel": {name: value for name, value in resource["channel"].items() if value is not None}}


def test_what_was_written_is_read_back():
    filters = ["RiskAssessment?patient=Patient/abc,Patient/def&ward=B4", "ward=B4,A%26E"]
    end = {"end": "2026-12-31T12:00:00+01:00"}
    resource = subscription(URL, filters=filters, heartbeat=60, timeout=5, max_count=7, header=["A: b"]) | end
    wanted, status, header = read(resource)
    assert (status, header) == ("requested", ["A: b"])
    assert wanted.filters == [("patient", ["subject-a", "subject-d"]), ("ward", ["B4"]), ("ward", ["B4", "A&E"])]
    assert (wanted.heartbeat, wanted.timeout, wanted.max_count) == (60, 5, 7)
    names = {subject: key for key, subject in KNOWN.items()}
    shown = to_resource(stored(resource), names.__getitem__)
    assert [each["valueString"] for each in shown["_criteria"]["extension"]] == [
        "RiskAssessment?patient=Patient/abc,Patient/def",
        "RiskAssessment?ward=B4",
        "RiskAssessment?ward=B4,A%26E",
    ]
    assert shown["end"] == "2026-12-31T11:00:00.000Z"
    assert "header" not in shown["channel"]
    assert read(shown)[0] == read(to_resource(stored(shown), names.__getitem__))[0]


def test_example_and_topics_of_the_page_are_those_of_the_code():
    page = (ROOT / "docs" / "fhir.md").read_text()
    _, _, rest = page.partition("cat > subscription.json <<'JSON'\n")
    wanted, status, header = read(json.loads(rest.partition("\nJSON\n")[0]))
    assert (wanted.topic, wanted.content, wanted.heartbeat, status) == (RISK_CHANGED, "id-only", 60, "requested")
    assert (wanted.filters, len(header)) == ([("ward", ["B4"])], 1)
    assert all(f"| `{topic.url}` |" in page and f"`system/{topic.resource}.rs`" in page for topic in TOPICS.values())


@pytest.mark.parametrize("text", ["Patient?_id=abc", "Encounter?subject=Patient/abc", "patient=abc"])
def test_patient_of_a_filter_is_named_in_several_ways(text):
    assert read(subscription(URL, filters=[text]))[0].filters == [("patient", ["subject-a"])]


NUMBER = "valueUnsignedInt"
CONTENT = f"{BACKPORT}/backport-payload-content"


@pytest.mark.parametrize(
    ("resource", "element"),
    [
        (subscription(URL) | {"status": "error"}, "status"),
        (subscription(URL) | {"status": None}, "status"),
        (subscription(URL, topic="urn:other"), "criteria"),
        (subscription(URL) | {"criteria": "Observation?code=8867-4"}, "criteria"),
        (subscription(URL) | {"criteria": [RISK_CHANGED]}, "criteria"),
        (subscription(URL) | {"reason": ""}, "reason"),
        (subscription(URL) | {"reason": "x" * 1001}, "reason"),
        (subscription(URL) | {"end": "2026-12-31"}, "end"),
        (subscription(URL) | {"end": 7}, "end"),
        (subscription(URL) | {"modifierExtension": []}, ""),
        (subscription(URL) | {"implicitRules": "x"}, ""),
        (subscription(URL) | {"channel": []}, "channel"),
        (with_channel(type="websocket"), "channel.type"),
        (with_channel(_type={"extension": []}), "channel"),
        (with_channel(endpoint="https://evil.example/"), "channel.endpoint"),
        (with_channel(endpoint=None), "channel.endpoint"),
        (with_channel(payload="application/fhir+xml"), "channel.payload"),
        (with_channel(payload=None), "channel.payload"),
        (with_channel(_payload=None), "channel.payload.extension"),
        (with_channel(_payload={"extension": [{"url": CONTENT, "valueCode": "all"}]}), "channel.payload.extension"),
        (with_channel(_payload={"extension": [{"url": CONTENT, "valueCode": "empty"}] * 2}), "channel.payload.extension"),
        (with_channel(extension={}), "channel.extension"),
        (with_channel(extension=[7]), "channel.extension"),
        (with_channel(extension=[{"url": "urn:x", NUMBER: 7}]), "channel.extension"),
        (with_channel(extension=[{"url": f"{BACKPORT}/backport-timeout", NUMBER: 61}]), "channel.extension"),
        (with_channel(extension=[{"url": f"{BACKPORT}/backport-timeout", NUMBER: True}]), "channel.extension"),
        (with_channel(extension=[{"url": f"{BACKPORT}/backport-timeout", NUMBER: 5}] * 2), "channel.extension"),
        (with_channel(extension=[{"url": f"{BACKPORT}/backport-max-count", "valuePositiveInt": 0}]), "channel.extension"),
        (with_channel(header="A: b"), "channel.header"),
        (with_channel(header=["A: b"] * 21), "channel.header"),
        (with_channel(header=["Host: evil.example"]), "channel.header[0]"),
        (with_channel(header=["A: b", "content-length: 7"]), "channel.header[1]"),
        (with_channel(header=["A: b\r\nHost: evil.example"]), "channel.header[0]"),
        (with_channel(header=["no name"]), "channel.header[0]"),
        (with_channel(header=["A: ä"]), "channel.header[0]"),
        *[
            (subscription(URL, filters=[text]), "criteria.extension")
            for text in (
                "",
                "patient",
                "patient=",
                "patient=Patient/unknown",
                "patient.identifier=urn:mrn|4711",
                "Observation?patient=Patient/abc",
                "ward:not=B4",
                "ward=",
                "code=x",
                "ward=" + ",".join("x" * 101),
                "&".join(["ward=B4"] * 21),
                "x" * 1001,
            )
        ],
        (subscription(URL) | {"_criteria": {"extension": [{"url": "urn:x", "valueString": "ward=B4"}]}}, "criteria.extension"),
        (subscription(URL) | {"_criteria": "ward=B4"}, "criteria.extension"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_element(resource, element):
    before = copy.deepcopy(resource)
    with pytest.raises(FhirError) as refused:
        read(resource)
    assert (refused.value.status_code, refused.value.issue["expression"]) == (422, [f"Subscription.{element}".rstrip(".")])
    assert "expected" in refused.value.issue["diagnostics"]
    assert resource == before


WHOLE = subscription(URL, filters=["patient=Patient/abc", "ward=B4,C1"], heartbeat=60, timeout=5, header=["A: b"])


@given(resource=changed(WHOLE | {"end": "2026-12-31T12:00:00+01:00"}))
@settings(max_examples=1_000, deadline=None)
def test_whatever_is_sent_is_taken_and_read_back_or_refused_without_being_repeated(resource):
    try:
        _, _, header = read(resource)
    except FhirError as refused:
        error: FhirError | None = refused
    else:
        error = None
        shown = to_resource(stored(resource), lambda _: "Patient/abc")
        assert header is None or all(":" in line for line in header)
        assert json.dumps(shown).encode("utf-8")
        assert read(shown)[0].ends_at is not None or "end" not in resource
    assert error is None or (error.status_code, CANARY in json.dumps(error.issue)) == (422, False)


def test_error_does_not_repeat_what_a_header_or_a_filter_says():
    for resource in (with_channel(header=["Authorization secret-7"]), subscription(URL, filters=["patient=Patient/secret-7"])):
        with pytest.raises(FhirError) as refused:
            read(resource)
        assert "secret-7" not in str(refused.value.issue)


def test_header_opens_with_its_own_secret_only():
    sealed = seal_header(b"a" * 32, ["A: b", "Authorization: Basic eDp5"])
    assert open_header(b"a" * 32, sealed) == [("A", "b"), ("Authorization", "Basic eDp5")]
    assert b"Basic" not in sealed
    assert open_header(b"b" * 32, sealed) is None
    assert seal_header(b"a" * 32, ["A: b"]) != seal_header(b"a" * 32, ["A: b"])


def parameters(status):
    return {each["name"]: each for each in status["parameter"]}


@pytest.mark.parametrize("content", ["empty", "id-only", "full-resource"])
def test_bundle_of_a_notification_is_a_history_that_begins_with_the_status(content):
    known = stored(subscription(URL, content=content), status="active", numbered=9)
    risk = {"resourceType": "RiskAssessment", "id": "r"} if content == "full-resource" else None
    events = [Told(number, 7_000_000, "RiskAssessment/r", "Patient/abc", risk) for number in (8, 9)]
    status = status_parameters(known, "event-notification", "https://v/fhir", content=content, count=9, events=events)
    bundle = notification(status, known, "https://v/fhir", events)
    assert bundle["type"] == "history"
    assert all({"fullUrl", "request", "response", "resource"} <= entry.keys() for entry in bundle["entry"])  # bdl-3, bdl-4
    first, *others = bundle["entry"]
    assert first["request"] == {"method": "GET", "url": "https://v/fhir/Subscription/s/$status"}
    assert first["resource"]["meta"]["profile"] == [f"{BACKPORT}/backport-subscription-status-r4"]
    assert [each["resource"]["id"] for each in others] == (["r"] if content == "full-resource" else [])
    named = parameters(first["resource"])
    assert named["subscription"]["valueReference"] == {"reference": "https://v/fhir/Subscription/s"}
    assert (named["status"]["valueCode"], named["type"]["valueCode"]) == ("active", "event-notification")
    assert named["events-since-subscription-start"]["valueString"] == "9"
    assert ("topic" in named) is (content != "empty")
    parts = [each["part"] for each in first["resource"]["parameter"] if each["name"] == "notification-event"]
    assert [part[0] for part in parts] == [{"name": "event-number", "valueString": text} for text in "89"]
    assert parts[0][1] == {"name": "timestamp", "valueInstant": "1970-01-01T00:00:07.000Z"}
    references = [part["valueReference"]["reference"] for part in parts[0][2:]]
    expected = [] if content == "empty" else ["https://v/fhir/RiskAssessment/r", "https://v/fhir/Patient/abc"]
    assert references == expected


def test_losses_are_an_error_until_the_client_writes_again():
    known = stored(subscription(URL), status="active", lost=3)
    assert shown_status(known) == "error"
    status = status_parameters(known, "query-status", "https://v/fhir", content="empty", count=3)
    assert parameters(status)["error"]["valueCodeableConcept"]["text"].startswith("3 events were deleted")
    bundle = status_bundle([status])
    assert (bundle["type"], bundle["total"]) == ("searchset", 1)
    assert to_resource(known, str)["error"].startswith("3 events")


@pytest.mark.parametrize(
    ("kind", "body", "topics"),
    [
        ("risk", {}, {RISK_CHANGED}),
        ("alarm", {"sounded": 1}, {ALARM}),
        ("alarm_ended", {"sounded": 2}, {ALARM}),
        ("alarm_ended", {"sounded": 0}, set()),  # it never sounded
        ("alarm_withheld", {"sounded": 0}, set()),
        ("acknowledged", {}, {ALARM}),
        ("left", {}, set()),
        ("signal_stopped", {}, set()),
    ],
)
def test_each_event_of_a_ward_belongs_to_one_topic_at_most(kind, body, topics):
    event = NumberedEvent("B4", "subject", kind, 0, body, number=1)
    assert {url for url, topic in TOPICS.items() if topic.is_about(event)} == topics
