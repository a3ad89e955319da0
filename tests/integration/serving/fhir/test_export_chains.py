"""Two exports, the second by ``_since``, are as much as one of everything, whatever happens in between."""

import itertools

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from tests.integration.serving.fhir.test_exports import export, group_of
from tests.integration.serving.fhir.test_reads import encounter, register
from tests.support.fhir_resources import component, observation, panel
from tests.support.in_process_server import observations_body, running_in_process
from vigil.serving.fhir.exports import observations, risks

NAMES = itertools.count()
PATIENT = st.integers(0, 2)
THING = st.integers(0, 3)  # a name of a message; few, so that they are sent again
VALUE = st.integers(60, 63)
MINUTE = st.integers(0, 3)
EVENTS = st.one_of(
    st.tuples(st.just("send"), PATIENT, THING, VALUE, MINUTE),
    st.tuples(st.just("put"), PATIENT, THING, VALUE, MINUTE, st.sampled_from(["final", "corrected", "entered-in-error"])),
    st.tuples(st.just("panel"), PATIENT, THING, VALUE, st.sampled_from(["both", "first", "entered-in-error"])),
    st.tuples(st.just("delete"), PATIENT, THING),
    st.tuples(
        st.just("native"), PATIENT, THING, st.sampled_from(["heart_rate", "fio2"]), VALUE, MINUTE,
        st.sampled_from(["final", "corrected", "retracted"]),
    ),
    st.tuples(st.just("risk"), PATIENT, VALUE),
    st.tuples(st.just("merge"), PATIENT, PATIENT),
    st.tuples(st.just("unmerge"), PATIENT),
    st.tuples(st.just("move"), PATIENT, st.sampled_from(["here", "there"]), st.booleans()),
    st.just(("export",)),
)  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = tmp_path_factory.mktemp("chains")
    (home / "fhir.toml").write_text('patient_system = "urn:mrn"\n')
    with pytest.MonkeyPatch.context() as patched:
        for module in (observations, risks):
            patched.setattr(module, "SLACK", 0)  # else everything would be told again, as all of it is of this minute
        with running_in_process(home) as running:
            yield running


class Happening:
    """Three patients in a ward of their own, two of them registered, and what happens to them."""

    def __init__(self, server):
        self.server, self.caller, self.number = server, server.caller(), next(NAMES)
        self.ward = {"here": f"here-{self.number}", "there": f"there-{self.number}"}
        for patient in (0, 1):
            register(server, self.name(patient), self.ward["here"])

    def name(self, patient):
        return f"p{self.number}-{patient}"

    def subject(self, patient):
        return {"subject": {"identifier": {"system": "urn:mrn", "value": self.name(patient)}}}

    def identity(self, patient, thing):
        return f"o-{self.number}-{patient}-{thing}"

    def do(self, event):
        kind, *rest = event
        getattr(self, kind)(*rest)

    def send(self, patient, thing, value, minute):
        identifier = [{"system": "urn:m", "value": f"{self.number} {patient} {thing}"}]
        resource = observation(value=value, id=None, identifier=identifier, effectiveDateTime=f"2026-02-01T08:{minute:02}:00Z")
        self.answer(self.caller.post("/fhir/Observation", json=resource | self.subject(patient)))

    def put(self, patient, thing, value, minute, status):
        self.update(patient, observation(value=value, effectiveDateTime=f"2026-02-01T08:{minute:02}:00Z", status=status), thing)

    def panel(self, patient, thing, value, what):
        parts = [component("8480-6", value + 60, "mm[Hg]"), component("8462-4", value, "mm[Hg]")]
        status = "entered-in-error" if what == "entered-in-error" else "final"
        self.update(patient, panel(*(parts[:1] if what == "first" else parts), status=status), f"panel-{thing}")

    def update(self, patient, resource, thing):
        identity = self.identity(patient, thing)
        resource = resource | {"id": identity} | self.subject(patient)
        self.answer(self.caller.put(f"/fhir/Observation/{identity}", json=resource))

    def delete(self, patient, thing):
        self.answer(self.caller.delete(f"/fhir/Observation/{self.identity(patient, thing)}"))

    def native(self, patient, thing, signal, value, minute, status):
        sent = {"message_id": f"{self.number} {thing}", "patient_id": self.name(patient), "signal": signal, "source": "gateway"}
        sent |= {"observed_at": f"2026-02-01T09:{minute:02}:00Z", "value": value, "unit": "/min", "status": status}
        sent |= {"unit": "%"} if signal == "fio2" else {}
        self.answer(self.caller.post("/v1/observations", json={"observations": [sent]}))

    def risk(self, patient, value):
        self.answer(self.caller.post("/v1/observations", json=observations_body(self.name(patient), {"heart_rate": value})))
        self.server.rescore()

    def merge(self, patient, into):
        body = {"patient_id": self.name(patient), "into": self.name(into)}
        self.answer(self.caller.post("/v1/patients/merge", json=body))

    def unmerge(self, patient):
        self.answer(self.caller.post("/v1/patients/unmerge", json={"patient_id": self.name(patient)}))

    def move(self, patient, ward, ends):
        subject = f"Patient/{self.server.components.directory.ids.of_subject(self.key(patient))}"
        stay = encounter(subject, self.ward[ward]) | {"status": "finished" if ends else "in-progress"}
        self.answer(self.caller.post("/fhir/Encounter", json=stay))

    def key(self, patient):
        return self.server.components.pseudonyms.subject_key(self.name(patient))

    def answer(self, answer):
        """What is refused is refused: here it only matters that nothing is an error of the server."""
        assert answer.status_code < 500, answer.text


class Copy:
    """What a client has, who applies one export after the other."""

    def __init__(self, server, path):
        self.server, self.path, self.since, self.resources = server, path, None, {}

    def follow(self):
        parameters = {} if self.since is None else {"_since": self.since}
        manifest, told, gone = export(self.server, self.path, **parameters)
        self.resources |= told
        for name in gone:
            self.resources.pop(name, None)
        self.since = manifest["transactionTime"]

    def of_patients(self, patients):
        """Return the resources of some patients only."""
        return {
            name: resource
            for name, resource in self.resources.items()
            if (name if name[0] == "Patient" else tuple(resource["subject"]["reference"].split("/"))) in patients
        }


@settings(max_examples=6, deadline=None, phases=(Phase.explicit, Phase.generate))  # to shrink takes minutes
@given(st.lists(EVENTS, min_size=4, max_size=14))
@example([("send", 0, 0, 60, 0), ("export",), ("merge", 0, 1), ("export",), ("unmerge", 0), ("export",)])
@example([("put", 0, 0, 60, 0, "final"), ("export",), ("put", 0, 0, 60, 1, "corrected"), ("export",), ("delete", 0, 0)])
@example([("native", 2, 0, "fio2", 60, 0, "final"), ("merge", 2, 0), ("export",), ("unmerge", 2)])
@example([("native", 0, 0, "fio2", 60, 0, "final"), ("export",), ("native", 0, 0, "fio2", 60, 0, "retracted")])
@example([("panel", 0, 0, 60, "both"), ("export",), ("panel", 0, 0, 60, "first"), ("export",), ("panel", 0, 0, 60, "both")])
@example([("risk", 0, 60), ("risk", 1, 61), ("export",), ("risk", 0, 62), ("merge", 0, 1), ("export",), ("unmerge", 0)])
@example([("put", 0, 0, 60, 0, "final"), ("export",), ("move", 0, "there", False), ("delete", 0, 0), ("export",),
          ("move", 0, "here", False)])  # fmt: skip
def test_a_chain_of_exports_is_one_export(server, events):
    happening = Happening(server)
    group = Copy(server, f"Group/{group_of(server, happening.ward['here'])}/$export")
    whole = Copy(server, "Patient/$export")
    for event in [*events, ("export",)]:
        if event == ("export",):
            group.follow()
            whole.follow()
        else:
            happening.do(event)
    for copy in (group, whole):
        again = Copy(server, copy.path)
        again.follow()
        patients = {name for name in again.resources if name[0] == "Patient"}
        assert copy.of_patients(patients) == again.resources
    assert whole.resources == again.resources
