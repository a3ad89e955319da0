"""Ingest: a source's observations, checked; its stays and outcomes; what cannot be used, quarantined and counted.

Here identifiers end: from here on a subject has a pseudonym, and only :mod:`serving.identity.identities` knows whose it is.
"""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from features.identifiers import is_identifier
from features.observations import TIME, check
from features.pseudonyms import KEY_FILE, OPEN_KEY, PseudonymError, Pseudonyms, open_pseudonyms
from features.signals import SIGNALS
from features.store.client import Store
from pipelines.cohort_store import CohortStore, Facts, NoCohortError
from pipelines.operations.upgrade import upgrade
from pipelines.progress import track
from pipelines.sources import OUTCOMES, STAYS, Batch, Source, SourceError
from serving.identity.identities import Identities


def ingest(source: Source, home: Path, now: pd.Timestamp | None = None, *, replace: bool = False) -> Facts:
    """Replace the home's cohort by the source's.

    Args:
        source: read anew.
        home: where the cohort is kept.
        now: the present.
        replace: also a cohort of another source.

    Raises:
        SourceError: the source's tables break their contract, or the home holds the cohort of another source.
        PseudonymError: everybody knows the home's key, and the source's patients have to be hidden.
    """
    home.mkdir(parents=True, exist_ok=True)
    upgrade(home)
    if not replace:
        _refuse_other(source, home)
    pseudonyms, identities = _pseudonyms(source, home), Identities(home)
    store = CohortStore(home)
    store.clear()
    Store(home).withdraw()  # its features are the old cohort's
    now = now or pd.Timestamp(datetime.now(UTC))
    quarantined: Counter[tuple[str, str]] = Counter()
    subjects = events = observations = 0
    for part, named in enumerate(track(source.batches(), f"ingest {source.name}", len(source))):
        _check_stays(named)
        batch = _pseudonymised(named, pseudonyms)
        identities.keep(dict(zip(batch.stays["subject_id"], named.stays["subject_id"].astype(str), strict=True)))
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
        quarantined.update(zip(quarantine["signal"].astype(str), quarantine["reason"], strict=True))
        subjects += len(batch.stays)
        events += len(batch.outcomes)
        observations += int((~stray).sum())
    reasons: Counter[str] = Counter()
    signals: dict[str, dict[str, int]] = {}
    for (signal, reason), count in sorted(quarantined.items()):
        reasons[reason] += count
        signals.setdefault(signal if signal in SIGNALS else "other", Counter())[reason] += count
    signals = {signal: dict(counts) for signal, counts in signals.items()}
    facts = Facts(source.name, source.simulated, source.task, subjects, events, observations, dict(reasons), signals)
    store.finish(facts)
    return facts


def _refuse_other(source: Source, home: Path) -> None:
    """The cohort of another source is not replaced by a slip of the command line."""
    try:
        there = CohortStore(home).facts
    except NoCohortError:
        return
    if there.source != source.name:
        raise SourceError(f"--home {home}: holds the cohort of {there.source}; name another --home, or replace it: --replace")


def _pseudonyms(source: Source, home: Path) -> Pseudonyms:
    pseudonyms = open_pseudonyms(home, first=OPEN_KEY if source.deidentified else None)
    if pseudonyms.is_open and not source.deidentified:
        raise PseudonymError(
            f"--source {source.name}: its patients are not de-identified, and {home / KEY_FILE} holds the key that everybody "
            "knows; expected a secret one; name another --home, which will have its own"
        )
    return pseudonyms


def _pseudonymised(batch: Batch, pseudonyms: Pseudonyms) -> Batch:
    def replaced(table: pd.DataFrame) -> pd.DataFrame:
        if "subject_id" not in table:
            return table  # check() says what observations need
        return table.assign(subject_id=pseudonyms.of_each(table["subject_id"]))

    return Batch(replaced(batch.observations), replaced(batch.stays), replaced(batch.outcomes))


def _check_columns(stays: pd.DataFrame, outcomes: pd.DataFrame) -> None:
    """All that is missing is named at once."""
    tables = (("stays", stays, STAYS), ("outcomes", outcomes, OUTCOMES))
    missing = [f"{name}.{column}" for name, table, columns in tables for column in columns if column not in table]
    if missing:
        raise SourceError(
            f"{', '.join(missing)}: missing; expected stays with {', '.join(STAYS)}; outcomes with {', '.join(OUTCOMES)}"
        )


def _check_stays(batch: Batch) -> None:
    stays, outcomes = batch.stays, batch.outcomes
    _check_columns(stays, outcomes)
    unclear = sum(not is_identifier(str(name)) for name in stays["subject_id"].dropna() if name != "")
    if unclear:
        raise SourceError(
            f"stays.subject_id: {unclear} with a blank at an end, or a character that cannot be seen or has two spellings; "
            "expected identifiers that cannot be taken for each other; mend them"
        )
    for column in ("start", "end", "unit_admitted_at", "hospital_admitted_at"):
        if str(stays[column].dtype) != TIME:
            raise SourceError(f"stays.{column}: type {stays[column].dtype}; expected {TIME}")
    for table, name in ((stays, "stays"), (outcomes, "outcomes")):
        if (table["subject_id"].isna() | (table["subject_id"] == "")).any():
            raise SourceError(f"{name}.subject_id: missing; expected one in each row")
        if table["subject_id"].duplicated().any():
            raise SourceError(f"{name}.subject_id: a subject twice; expected one row a subject")
    if (stays["start"].dt.microsecond != 0).any():
        raise SourceError("stays.start: a fraction of a second; expected whole seconds, which is what the feature store keeps")
    if not (stays["start"] <= stays["end"]).all():
        raise SourceError("stays: a stay without a start or end, or one that ends before it starts")
    if not outcomes["subject_id"].isin(stays["subject_id"]).all():
        raise SourceError("outcomes.subject_id: a subject without a stay")
