"""Ingest: a source that breaks its contract is refused, and readings without a stay are kept apart."""

from dataclasses import replace

import pandas as pd
import pytest

from pipelines.cohort_store import CohortStore, NoCohortError
from pipelines.ingest import ingest
from pipelines.sources import Batch, SourceError
from pipelines.sources.simulated import SimulatedWard


class Edited:
    """The simulated ward, with its tables changed."""

    name, simulated, task = "edited", True, "deterioration"

    def __init__(self, change):
        self.change = change
        self.ward = SimulatedWard(patients=2)

    def __len__(self):
        return len(self.ward)

    def batches(self):
        return (self.change(batch) for batch in self.ward.batches())


def test_readings_of_nobody_are_quarantined(tmp_path):
    facts = ingest(Edited(lambda batch: replace(batch, stays=batch.stays.iloc[:1], outcomes=batch.outcomes.iloc[:0])), tmp_path)
    assert facts.quarantined["no_stay"] > 1000
    quarantine = CohortStore(tmp_path).read("quarantine")
    assert set(quarantine.loc[quarantine["reason"] == "no_stay", "subject_id"]) == {"sim-000001"}
    assert set(CohortStore(tmp_path).read("observations")["subject_id"]) == {"sim-000000"}


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
