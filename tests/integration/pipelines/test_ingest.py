"""Ingest: it refuses a source that breaks its contract, quarantines readings without a stay, and ends patient identifiers."""

from dataclasses import replace

import pandas as pd
import pytest

from vigil.features.observations import ObservationError
from vigil.features.pseudonyms import KEY_BYTES, KEY_FILE, OPEN_KEY, PseudonymError, Pseudonyms, open_pseudonyms
from vigil.models.cohort import patient_of
from vigil.models.tasks import TASKS
from vigil.pipelines.cohort_store import CohortStore, NoCohortError
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.ingest import ingest
from vigil.pipelines.sources import Batch, Source, SourceError
from vigil.pipelines.sources.simulated import SimulatedWard
from vigil.serving.identity.identities import Identities

SIM_0, SIM_1 = (Pseudonyms(OPEN_KEY).subject_key(name) for name in ("sim-000000", "sim-000001"))


class Edited(Source):
    """The simulated ward with changed tables."""

    name, simulated, task = "edited", True, TASKS["deterioration"]

    def __init__(self, change=lambda batch: batch, *, deidentified=True):
        self.change = change
        self.deidentified = deidentified
        self.ward = SimulatedWard(patients=2)

    def __len__(self):
        return len(self.ward)

    def batches(self):
        return (self.change(batch) for batch in self.ward.batches())


def test_ingest_quarantines_readings_without_a_stay(tmp_path):
    facts = ingest(
        Edited(lambda batch: replace(batch, stays=batch.stays.iloc[:1], outcomes=batch.outcomes.iloc[:0])), Home(tmp_path)
    )
    assert facts.quarantined["no_stay"] > 1000
    quarantine = CohortStore(tmp_path).read("quarantine")
    assert set(quarantine.loc[quarantine["reason"] == "no_stay", "subject_id"]) == {SIM_1}
    assert set(CohortStore(tmp_path).read("observations")["subject_id"]) == {SIM_0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: replace(b, stays=pd.concat([b.stays, b.stays])), "stays.subject_id: a subject twice"),
        (lambda b: replace(b, stays=b.stays.assign(end=b.stays["start"], start=b.stays["end"])), "ends before it starts"),
        (
            lambda b: replace(b, stays=b.stays.assign(start=b.stays["start"].dt.tz_localize(None))),
            "stays.start: type datetime64",
        ),
        (lambda b: Batch(b.observations, b.stays, _stranger(b)), "outcomes.subject_id: a subject without a stay"),
        (
            lambda b: replace(b, stays=_renamed(b.stays, {"sim-000001": None})),
            "stays.subject_id: missing; expected one in each",
        ),
        (lambda b: replace(b, stays=_renamed(b.stays, {"sim-000001": ""})), "stays.subject_id: missing; expected one in each"),
    ],
)
def test_ingest_names_the_rule_of_the_contract_that_is_broken(tmp_path, change, message):
    with pytest.raises(SourceError, match=message):
        ingest(Edited(change), Home(tmp_path))
    with pytest.raises(NoCohortError, match="ingest one first"):
        _ = CohortStore(tmp_path).facts  # an unfinished ingest is no cohort


def _stranger(batch):
    onset = batch.stays["start"].iloc[:1]
    return pd.DataFrame({"subject_id": ["stranger"], "onset": onset.to_numpy(), "kind": ["sepsis"], "onset_known": [True]})


def test_ingest_replaces_the_former_cohort(tmp_path):
    ingest(SimulatedWard(patients=3, patients_per_batch=1), Home(tmp_path))
    ingest(SimulatedWard(patients=2, patients_per_batch=2), Home(tmp_path))
    assert len(CohortStore(tmp_path).read("stays")) == 2


def test_ingest_refuses_observations_without_a_subject_column(tmp_path):
    with pytest.raises(ObservationError, match="missing column subject_id"):
        ingest(Edited(lambda batch: replace(batch, observations=batch.observations.drop(columns="subject_id"))), Home(tmp_path))


def test_ingest_stores_pseudonyms_and_only_identities_hold_the_identifiers(tmp_path):
    """Every observation of a subject is stored under the subject's pseudonym, quarantined ones too."""
    batch = next(iter(Edited().batches()))
    ingest(Edited(), Home(tmp_path))
    identifiers = Identities(tmp_path).find([SIM_0, SIM_1])
    assert identifiers == {SIM_0: "sim-000000", SIM_1: "sim-000001"}
    cohort = CohortStore(tmp_path)
    for name, delivered in (("stays", batch.stays), ("outcomes", batch.outcomes)):
        stored = cohort.read(name)
        assert stored.assign(subject_id=stored["subject_id"].map(identifiers)).astype(str).equals(delivered.astype(str)), name
    stored = pd.concat([cohort.read("observations"), cohort.read("quarantine")])
    assert set(cohort.read("quarantine")["subject_id"]) == {SIM_0, SIM_1}
    key = ["subject_id", "message_id", "signal", "observed_at", "recorded_at"]
    delivered = batch.observations[key].astype(str).value_counts()
    stored = stored.assign(subject_id=stored["subject_id"].map(identifiers))[key].astype(str).value_counts()
    pd.testing.assert_series_equal(stored.sort_index(), delivered.sort_index())


def test_ingest_quarantines_a_reading_without_subject(tmp_path):
    def without_subjects(batch):
        subjects = batch.observations["subject_id"].astype(object)
        return replace(batch, observations=batch.observations.assign(subject_id=["", None, *subjects.iloc[2:]]))

    assert ingest(Edited(without_subjects), Home(tmp_path)).quarantined["missing_subject"] == 2
    quarantine = CohortStore(tmp_path).read("quarantine").set_index("reason")["subject_id"]
    assert quarantine["missing_subject"].isna().all()


def test_stays_of_one_patient_share_a_patient_pseudonym(tmp_path):
    stays_of_one = {"sim-000000": "12~1", "sim-000001": "12~2"}
    ingest(Edited(lambda b: Batch(*(_renamed(t, stays_of_one) for t in (b.observations, b.stays, b.outcomes)))), Home(tmp_path))
    subjects = CohortStore(tmp_path).read("stays")["subject_id"]
    assert subjects.nunique() == 2
    assert set(subjects.map(patient_of)) == {Pseudonyms(OPEN_KEY).subject_key("12")}
    assert sorted(Identities(tmp_path).find(subjects).values()) == ["12~1", "12~2"]


def test_deidentified_patients_have_the_same_pseudonyms_in_every_home_and_others_have_not(tmp_path):
    pseudonyms = {}
    for name, deidentified in (("published 1", True), ("published 2", True), ("secret 1", False), ("secret 2", False)):
        ingest(Edited(deidentified=deidentified), Home(tmp_path / name))
        pseudonyms[name] = frozenset(CohortStore(tmp_path / name).read("stays")["subject_id"])
        assert open_pseudonyms(tmp_path / name).is_open == deidentified
    assert pseudonyms["published 1"] == pseudonyms["published 2"] == {SIM_0, SIM_1}
    assert len(frozenset.union(*pseudonyms.values())) == 6


def test_ingest_keeps_a_secret_key_for_any_source(tmp_path):
    secret = bytes(range(KEY_BYTES))
    (tmp_path / KEY_FILE).write_text(secret.hex())
    for deidentified in (True, False):
        ingest(Edited(deidentified=deidentified), Home(tmp_path))
        assert SIM_0 not in set(CohortStore(tmp_path).read("stays")["subject_id"])
        assert Pseudonyms(secret).subject_key("sim-000000") in set(CohortStore(tmp_path).read("stays")["subject_id"])


def test_ingest_refuses_identified_patients_under_the_published_key(tmp_path):
    before = ingest(Edited(), Home(tmp_path))
    with pytest.raises(PseudonymError, match=f"--source edited: .*{KEY_FILE} holds the published key.* --home"):
        ingest(Edited(deidentified=False), Home(tmp_path))
    assert CohortStore(tmp_path).facts == before  # refused before anything was cleared


def _renamed(table, names):
    return table.assign(subject_id=table["subject_id"].astype(object).replace(names))
