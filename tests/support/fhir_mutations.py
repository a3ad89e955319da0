"""Requests for every FHIR route, the token endpoint and CDS Hooks: valid ones, and what a careless client makes of them.

The interactions are those of :data:`vigil.serving.fhir.routes.interactions.RESOURCES`, so that a new one is sent, too. Every
text and number that is sent about a patient is marked: no answer of an error and no log may hold it.
"""

import json
from copy import deepcopy
from dataclasses import dataclass, field

import pandas as pd
from hypothesis import strategies as st

from tests.support.fhir_resources import component, observation, panel
from tests.support.receiver import subscription
from vigil.serving.cds_hooks.service import SERVICES
from vigil.serving.fhir.interactions import RESOURCES
from vigil.serving.smart.service import CONFIGURATION_PATH, TOKEN_PATH

CANARY = "canary-3e7a"
VALUE = 77.3125  # a marked value, which is plausible as many signals
_SYSTEM = "urn:mrn"
_NOW = (pd.Timestamp.now("UTC") - pd.Timedelta(minutes=1)).isoformat()  # one for all, so that examples can be repeated
_FHIR, _FORM = "application/fhir+json", "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Sent:
    """One request. ``content`` is bytes, or what becomes JSON."""

    method: str
    path: str
    content: object = None
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes | None:
        if self.content is None or isinstance(self.content, bytes):
            return self.content
        return json.dumps(self.content).encode()  # surrogates are escaped, infinities are not JSON


def _subject():
    return {"identifier": {"system": _SYSTEM, "value": CANARY}, "display": CANARY}


def resources():
    """Return valid resources of each type that can be written."""
    now = _NOW
    common = {
        "id": "o-1",
        "subject": _subject(),
        "effectiveDateTime": now,
        "identifier": [{"system": "urn:x", "value": CANARY}],
    }
    names = [{"family": CANARY, "given": [CANARY]}]
    pressure = panel(component("8480-6", 118.3125, "mm[Hg]"), component("8462-4", VALUE, "mm[Hg]"), **common)
    ward = {"location": {"reference": "Location/b4", "display": CANARY}, "status": "active", "period": {"start": now}}
    contained = {"contained": [{"resourceType": "Patient", "id": "p", "identifier": [_subject()["identifier"]]}]}
    return {
        "Subscription": [
            subscription("https://ehr.example/hooks/7", filters=[f"patient=Patient/{CANARY}"], header=[f"X: {CANARY}"])
            | {"id": "o-1", "end": now, "reason": CANARY}
        ],
        "Observation": [
            observation(value=VALUE, device={"reference": "Device/1"}, issued=now, **common),
            pressure,
            observation(value=VALUE, **common) | contained | {"subject": {"reference": "#p"}},
        ],
        "Patient": [
            {
                "resourceType": "Patient",
                "id": "o-1",
                "identifier": [_subject()["identifier"], {"system": "urn:other", "value": CANARY}],
                "name": names,
                "gender": "female",
                "birthDate": "1950-05-01",
                "link": [{"type": "seealso", "other": _subject()}],
            }
        ],
        "DetectedIssue": [
            {
                "resourceType": "DetectedIssue",
                "id": "o-1",
                "status": "preliminary",
                "patient": _subject(),
                "mitigation": [
                    {"action": {"coding": [{"system": "urn:vigil:alarm-action", "code": "acknowledged"}], "text": CANARY}}
                ],
            }
        ],
        "Encounter": [
            {
                "resourceType": "Encounter",
                "id": "o-1",
                "status": "in-progress",
                "class": {"code": "IMP"},
                "subject": _subject(),
                "period": {"start": now},
                "location": [ward],
            }
        ],
    }


def _resource(kind):
    return resources().get(kind, [{"resourceType": kind, "id": "o-1", "subject": _subject()}])


def bundle(kind="batch"):
    entries = [
        {"fullUrl": f"urn:uuid:{kind}-1", "request": {"method": "POST", "url": "Patient"}, "resource": _resource("Patient")[0]},
        *(
            {
                "request": {"method": "POST", "url": "Observation", "ifNoneExist": f"identifier=urn:x|{CANARY}-{position}"},
                "resource": resource,
            }
            for position, resource in enumerate(_resource("Observation"))
        ),
        {"request": {"method": "POST", "url": "Encounter"}, "resource": _resource("Encounter")[0]},
    ]
    if kind == "batch":
        update = {"method": "PUT", "url": "Observation/o-1", "ifMatch": 'W/"1"'}
        deletion = {"method": "DELETE", "url": "Observation/o-2"}
        entries += [{"request": update, "resource": _resource("Observation")[0]}, {"request": deletion}]
    return {"resourceType": "Bundle", "type": kind, "entry": entries}


def valid_requests():
    """Return requests for every interaction that is offered, and the routes beside."""
    json_type = {"Content-Type": _FHIR}
    found = [
        Sent("GET", "/fhir/metadata"),
        Sent("GET", CONFIGURATION_PATH),
        *(Sent("POST", "/fhir", bundle(kind), json_type) for kind in ("batch", "transaction")),
    ]
    for offered in RESOURCES:
        base, search = f"/fhir/{offered.type}", "&".join(f"{name}={CANARY}" for name, _ in offered.search[:1])
        for resource in _resource(offered.type):
            found += [
                Sent("POST", base, resource, json_type),
                Sent("POST", base, resource, json_type | {"If-None-Exist": f"identifier=urn:x|{CANARY}"}),
                Sent("PUT", f"{base}/o-1", resource, json_type | {"If-Match": 'W/"1"'}),
                Sent("PUT", f"{base}?identifier={_SYSTEM}|{CANARY}", resource, json_type),
            ]
        found += [
            Sent("DELETE", f"{base}/o-1"),
            Sent("GET", f"{base}/o-1"),
            Sent("GET", f"{base}?{search}"),
            Sent("POST", f"{base}/_search", search.encode(), {"Content-Type": _FORM}),
        ]
        parameters = {"resourceType": "Parameters", "parameter": [{"name": "content", "valueCode": CANARY}]}
        for operation in dict(offered.details).get("operation", ()):
            own = f"{base}/o-1/${operation['name']}"
            found += [Sent("GET", own), Sent("POST", own, parameters, json_type)]
    form = f"grant_type=client_credentials&scope=system/*.rs&client_assertion_type={CANARY}&client_assertion={CANARY}".encode()
    found.append(Sent("POST", TOKEN_PATH, form, {"Content-Type": _FORM}))
    found.append(Sent("GET", "/cds-services"))
    for identity, service in SERVICES.items():
        context = {"patientId": CANARY, "userId": "Practitioner/1"}
        asked = {
            "hook": service.hook,
            "hookInstance": CANARY,
            "context": context,
            "prefetch": {"patient": _resource("Patient")[0] | {"id": CANARY}},
        }
        feedback = {"feedback": [{"card": CANARY, "outcome": "overridden", "overrideReason": {"userComment": CANARY}}]}
        found.append(Sent("POST", f"/cds-services/{identity}", asked, {"Content-Type": "application/json"}))
        found.append(Sent("POST", f"/cds-services/{identity}/feedback", feedback, {"Content-Type": "application/json"}))
    return found


_SURROGATE, _NULL, _MARK = f"{CANARY}\ud800", f"{CANARY}\x00", f"\u202e{CANARY}\u0301\ufeff"
ODD_VALUES = [
    *(None, True, False, 0, -1, VALUE, 1e308, -1e308, 5e-324, 2**53 + 1, 2**63, 10**400, 1e999, float("nan"), -0.0),
    *("", " ", CANARY, f"{CANARY}" * 3_000, _SURROGATE, _NULL, _MARK, "١٢", "🜚" * 300, "#", "#p", "urn:uuid:", "Patient/", "|"),
    *([], {}, [None], [[]], {CANARY: CANARY}, [CANARY], {"": None}, [[[[None]]]], {"reference": 1}, {"coding": [None]}),
    *(
        "2026",
        "2026-02-30",
        "0000-00-00T00:00:00Z",
        "9999-12-31T23:59:60Z",
        "2026-02-01T12:00:00+99:99",
        "0001-01-01T00:00:00Z",
    ),
    *(
        "entered-in-error",
        "cancelled",
        "final",
        "replaced-by",
        "Observation",
        "Patient",
        "POST",
        "DELETE",
        "Patient?identifier=|",
    ),
]
ODD_HEADERS = {
    "Content-Type": [
        "",
        "text/plain",
        "application/fhir+xml",
        f"{_FHIR}; fhirVersion=5.0",
        f"{_FHIR}; charset=utf-16",
        _FORM,
        CANARY,
    ],
    "Accept": ["", "text/html", "application/fhir+xml", f"{_FHIR}; fhirVersion=3.0", ";;;,", CANARY, "*/*;q=0"],
    "If-Match": ["", "*", 'W/"999"', '"', CANARY, 'W/"1", W/"2"', "9" * 400],
    "If-None-Exist": [
        "",
        "identifier=",
        f"identifier=|{CANARY}",
        f"name={CANARY}",
        "identifier=a|b&identifier=c|d",
        "%ff" * 50,
    ],
    "Prefer": ["return=minimal", "return=representation", "return=OperationOutcome", "handling=strict", "return=", CANARY],
    "Authorization": ["", "Bearer", f"Bearer {CANARY}", f"Basic {CANARY}", "Bearer a.b.c"],
    "Content-Encoding": ["gzip", "identity", CANARY],
    "Origin": ["null", f"https://{CANARY}.example"],
}
ODD_IDS = [
    "",
    ".",
    "..",
    "%2e%2e",
    "%00",
    "é",
    "a" * 65,
    "_history",
    "$export",
    "o-1/_history/1",
    f"{CANARY} x",
    "o-1/",
    "//",
    "%ff",
]
ODD_QUERIES = [
    *("?", "&&&", "=", "_format=xml", "_format=json", "_count=-1", "_count=99999999999999999999", "_sort=%00", "%ff=%ff"),
    *(f"patient={CANARY}", f"patient=Patient/{CANARY}&patient=x", f"identifier={CANARY}", f"identifier={_SYSTEM}|{CANARY}"),
    *(f"subject:Patient.name={CANARY}", "_lastUpdated=gt2026-99-99", "date=ge" + "9" * 400, "_id=" + "a," * 2_000, "a=b&" * 30),
]
ODD_BODIES = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"[" * 50_000,
    b'{"a":1,"a":2}',
    b"\xff\xfe{}",
    b"\xef\xbb\xbf{}",
    CANARY.encode(),
    b'"\\ud800"',
]


def _places(value, path=()):
    """Yield the path of every member of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, own in items:
        yield (*path, name)
        yield from _places(own, (*path, name))


@st.composite
def changed(draw, content):
    """Return a JSON value of which one to four members are dropped, duplicated, renamed or replaced."""
    copy = deepcopy(content)
    for _ in range(draw(st.integers(1, 4))):
        places = list(_places(copy))
        if not places:
            break
        *way, last = draw(st.sampled_from(places))
        parent = copy
        for name in way:
            parent = parent[name]
        match draw(st.sampled_from(["drop", "replace", "replace", "duplicate", "rename", "wrap"])):
            case "drop":
                del parent[last]
            case "replace":
                parent[last] = draw(
                    st.sampled_from(ODD_VALUES).map(deepcopy) | st.text(max_size=5).map(lambda text: CANARY + text)
                )
            case "duplicate":
                parent[last] = [parent[last], parent[last]]
            case "rename" if isinstance(parent, dict):
                parent[draw(st.sampled_from(["_" + last, last.upper(), CANARY, "", "valueString", "modifierExtension"]))] = (
                    parent.pop(last)
                )
            case _:
                parent[last] = {"value": parent[last]}
    return copy


@st.composite
def requests(draw):
    """Return a request of which body, headers, path or query are not what they should be, or one that is valid."""
    sent = draw(st.sampled_from(valid_requests()))
    content, path, headers = sent.content, sent.path, dict(sent.headers)
    changes = draw(st.sets(st.sampled_from(["content", "content", "bytes", "headers", "id", "query", "method"]), max_size=3))
    if "content" in changes and isinstance(content, dict):
        content = draw(changed(content))
    if "bytes" in changes and content is not None:
        whole = Sent("", "", content).body
        content = draw(st.sampled_from(ODD_BODIES) | st.integers(0, len(whole)).map(lambda end: whole[:end]))
    if "headers" in changes:
        name = draw(st.sampled_from(sorted(ODD_HEADERS)))
        headers[name] = draw(st.sampled_from(ODD_HEADERS[name]))
    if "id" in changes:
        path = f"{path.partition('?')[0].removesuffix('/o-1')}/{draw(st.sampled_from(ODD_IDS))}"
    if "query" in changes:
        path = f"{path.partition('?')[0]}?{draw(st.sampled_from(ODD_QUERIES))}"
    method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])) if "method" in changes else sent.method
    return Sent(method, path, content, headers)


def faults(path, status, media_type, content):
    """Return what is wrong with an answer: an error of the server, one that is no outcome, or one that repeats its request."""
    found = []
    if status >= 500:
        found.append(f"{status}")
    if status < 400:
        return found
    if path == "/fhir" or path.startswith("/fhir/"):
        is_outcome = media_type == _FHIR and json.loads(content).get("resourceType") == "OperationOutcome"
        found += [] if is_outcome else ["an error that is no OperationOutcome"]
    found += ["what was sent is repeated"] if CANARY in content.lower() or str(VALUE) in content else []
    return found
