"""Ingest: a source's observations, checked; its stays and outcomes; what cannot be used, quarantined and counted."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from features.observations import TIME, check
from features.store.client import Store
from pipelines.cohort_store import CohortStore, Facts
from pipelines.progress import track
from pipelines.sources import Batch, Source, SourceError


def ingest(source: Source, home: Path, now: pd.Timestamp | None = None) -> Facts:
    """Replace the home's cohort by the source's.

    Raises:
        SourceError: the source's tables break their contract.
    """
    home.mkdir(parents=True, exist_ok=True)
    store = CohortStore(home)
    store.clear()
    Store(home).withdraw()  # its features are the old cohort's
    now = now or pd.Timestamp(datetime.now(UTC))
    quarantined: Counter[str] = Counter()
    subjects = events = observations = 0
    for part, batch in enumerate(track(source.batches(), f"ingest {source.name}", len(source))):
        _check_stays(batch)
        checked = check(batch.observations, now)
        stray = ~checked.accepted["subject_id"].isin(batch.stays["subject_id"])
        quarantine = pd.concat([checked.quarantined, checked.accepted[stray].assign(reason="no_stay")], ignore_index=True)
        store.write(
            part,
            observations=checked.accepted[~stray],
            quarantine=quarantine.astype({"value": "string"}),  # as it came: numbers and what only should be one
            stays=batch.stays,
            outcomes=batch.outcomes,
        )
        quarantined.update(quarantine["reason"])
        subjects += len(batch.stays)
        events += len(batch.outcomes)
        observations += int((~stray).sum())
    facts = Facts(source.name, source.simulated, source.task, subjects, events, observations, dict(quarantined))
    store.finish(facts)
    return facts


def _check_stays(batch: Batch) -> None:
    stays, outcomes = batch.stays, batch.outcomes
    for column in ("start", "end", "unit_admitted_at", "hospital_admitted_at"):
        if str(stays[column].dtype) != TIME:
            raise SourceError(f"stays.{column}: type {stays[column].dtype}; expected {TIME}")
    for table, name in ((stays, "stays"), (outcomes, "outcomes")):
        if table["subject_id"].duplicated().any():
            raise SourceError(f"{name}.subject_id: a subject twice; expected one row a subject")
    if (stays["start"].dt.microsecond != 0).any():
        raise SourceError("stays.start: a fraction of a second; expected whole seconds, which is what the feature store keeps")
    if not (stays["start"] <= stays["end"]).all():
        raise SourceError("stays: a stay without a start or end, or one that ends before it starts")
    if not outcomes["subject_id"].isin(stays["subject_id"]).all():
        raise SourceError("outcomes.subject_id: a subject without a stay")
