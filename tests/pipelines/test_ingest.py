"""Ingest: a source that breaks its contract is refused, readings without a stay are kept apart, and identifiers end here."""

from dataclasses import replace

import pandas as pd
import pytest

from features.observations import ObservationError
from features.pseudonyms import KEY_BYTES, KEY_FILE, OPEN_KEY, PseudonymError, Pseudonyms, open_pseudonyms
from models.cohort import patient_of
from pipelines.cohort_store import CohortStore, NoCohortError
from pipelines.jobs.ingest import ingest
from pipelines.sources import Batch, SourceError
from pipelines.sources.simulated import SimulatedWard
from serving.identity.identities import Identities

SIM_0, SIM_1 = (Pseudonyms(OPEN_KEY).of(name) for name in ("sim-000000", "sim-000001"))


class Edited:
    """The simulated ward, with its tables changed."""

    name, simulated, task = "edited", True, "deterioration"

    def __init__(self, change=lambda batch: batch, *, deidentified=True):
        self.change = change
        self.deidentified = deidentified
        self.ward = SimulatedWard(patients=2)

    def __len__(self):
        return len(self.ward)

    def batches(self):
        return (self.change(batch) for batch in self.ward.batches())


def test_readings_of_nobody_are_quarantined(tmp_path):
    facts = ingest(Edited(lambda batch: replace(batch, stays=batch.stays.iloc[:1], outcomes=batch.outcomes.iloc[:0])), tmp_path)
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
def test_a_broken_contract_is_named(tmp_path, change, message):
    with pytest.raises(SourceError, match=message):
        ingest(Edited(change), tmp_path)
    with pytest.raises(NoCohortError, match="ingest one first"):
        _ = CohortStore(tmp_path).facts  # an unfinished ingest is no cohort


def _stranger(batch):
    onset = batch.stays["start"].iloc[:1]
    return pd.DataFrame({"subject_id": ["stranger"], "onset": onset.to_numpy(), "kind": ["sepsis"], "onset_known": [True]})


def test_a_second_ingest_replaces_the_first(tmp_path):
    ingest(SimulatedWard(patients=3, patients_per_batch=1), tmp_path)
    ingest(SimulatedWard(patients=2, patients_per_batch=2), tmp_path)
    assert len(CohortStore(tmp_path).read("stays")) == 2


def test_observations_without_subjects_are_refused(tmp_path):
    with pytest.raises(ObservationError, match="missing column subject_id"):
        ingest(Edited(lambda batch: replace(batch, observations=batch.observations.drop(columns="subject_id"))), tmp_path)


def test_every_table_has_pseudonyms_and_only_the_identities_know_whose(tmp_path):
    """What was measured of a subject is his pseudonym's, to the last reading, in the quarantine too."""
    batch = next(iter(Edited().batches()))
    ingest(Edited(), tmp_path)
    identifiers = Identities(tmp_path).of([SIM_0, SIM_1])
    assert identifiers == {SIM_0: "sim-000000", SIM_1: "sim-000001"}
    cohort = CohortStore(tmp_path)
    for name, came in (("stays", batch.stays), ("outcomes", batch.outcomes)):
        kept = cohort.read(name)
        assert kept.assign(subject_id=kept["subject_id"].map(identifiers)).astype(str).equals(came.astype(str)), name
    kept = pd.concat([cohort.read("observations"), cohort.read("quarantine")])
    assert set(cohort.read("quarantine")["subject_id"]) == {SIM_0, SIM_1}
    key = ["subject_id", "message_id", "signal", "observed_at", "recorded_at"]
    came = batch.observations[key].astype(str).value_counts()
    kept = kept.assign(subject_id=kept["subject_id"].map(identifiers))[key].astype(str).value_counts()
    pd.testing.assert_series_equal(kept.sort_index(), came.sort_index())


def test_a_reading_without_subject_stays_one(tmp_path):
    def forget(batch):
        subjects = batch.observations["subject_id"].astype(object)
        return replace(batch, observations=batch.observations.assign(subject_id=["", None, *subjects.iloc[2:]]))

    assert ingest(Edited(forget), tmp_path).quarantined["missing_subject"] == 2
    quarantine = CohortStore(tmp_path).read("quarantine").set_index("reason")["subject_id"]
    assert quarantine["missing_subject"].isna().all()


def test_stays_of_one_patient_stay_his(tmp_path):
    new = {"sim-000000": "12~1", "sim-000001": "12~2"}
    ingest(Edited(lambda b: Batch(*(_renamed(t, new) for t in (b.observations, b.stays, b.outcomes)))), tmp_path)
    subjects = CohortStore(tmp_path).read("stays")["subject_id"]
    assert subjects.nunique() == 2
    assert set(subjects.map(patient_of)) == {Pseudonyms(OPEN_KEY).of("12")}
    assert sorted(Identities(tmp_path).of(subjects).values()) == ["12~1", "12~2"]


def test_deidentified_patients_are_the_same_in_every_home_and_others_are_not(tmp_path):
    found = {}
    for name, deidentified in (("open", True), ("open too", True), ("ours", False), ("theirs", False)):
        ingest(Edited(deidentified=deidentified), tmp_path / name)
        found[name] = frozenset(CohortStore(tmp_path / name).read("stays")["subject_id"])
        assert open_pseudonyms(tmp_path / name).is_open == deidentified
    assert found["open"] == found["open too"] == {SIM_0, SIM_1}
    assert len(frozenset.union(*found.values())) == 6


def test_a_secret_key_is_kept_whoever_comes(tmp_path):
    secret = bytes(range(KEY_BYTES))
    (tmp_path / KEY_FILE).write_text(secret.hex())
    for deidentified in (True, False):
        ingest(Edited(deidentified=deidentified), tmp_path)
        assert SIM_0 not in set(CohortStore(tmp_path).read("stays")["subject_id"])
        assert Pseudonyms(secret).of("sim-000000") in set(CohortStore(tmp_path).read("stays")["subject_id"])


def test_nobody_is_hidden_by_a_key_that_everybody_knows(tmp_path):
    before = ingest(Edited(), tmp_path)
    with pytest.raises(PseudonymError, match=f"--source edited: .*{KEY_FILE} holds the key that everybody knows.* --home"):
        ingest(Edited(deidentified=False), tmp_path)
    assert CohortStore(tmp_path).facts == before  # refused before anything was cleared


def _renamed(table, names):
    return table.assign(subject_id=table["subject_id"].astype(object).replace(names))
