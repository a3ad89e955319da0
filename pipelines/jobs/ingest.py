"""Ingest a source: check its observations, quarantine and count those that cannot be used, and store stays and outcomes.

Patient identifiers end here. From here on a subject has a pseudonym, and only :mod:`vigil.serving.identity.identities` knows
the identifier.
"""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pandas as pd

from vigil.features.identifiers import is_identifier
from vigil.features.measures import name_signal
from vigil.features.observations import TIME, CheckedObservations, check
from vigil.features.pseudonyms import KEY_FILE, OPEN_KEY, PseudonymError, Pseudonyms, open_pseudonyms
from vigil.features.resolved import check_resolved
from vigil.features.signals import STORED, measured_signal
from vigil.models.own_tasks import store_task
from vigil.pipelines.cohort_store import CohortFacts, NoCohortError
from vigil.pipelines.home import Home
from vigil.pipelines.operations.upgrade import upgrade
from vigil.pipelines.progress import track
from vigil.pipelines.sources import OUTCOMES, STAYS, Batch, Source, SourceError
from vigil.serving.identity.identities import Identities


def ingest(source: Source, home: Home, now: pd.Timestamp | None = None, *, replace: bool = False) -> CohortFacts:
    """Replace the cohort of a home by that of a source.

    Args:
        source: read from its beginning.
        home: made if it does not exist.
        now: the present; default: the clock's. Observations of the future are quarantined.
        replace: also replace the cohort of another source.

    Raises:
        SourceError: the source's tables break their contract, or the home holds the cohort of another source.
        PseudonymError: the home has the published key, and the source's patients are not de-identified.
    """
    home.path.mkdir(parents=True, exist_ok=True)
    upgrade(home)
    if not replace:
        _refuse_other_source(source, home)
    pseudonyms, identities = _open_pseudonyms(source, home), Identities(home.path)
    home.cohort.clear()
    home.features.withdraw()  # they are the former cohort's
    if source.own_task is not None:
        store_task(source.own_task, home.path)
    now = now or pd.Timestamp(datetime.now(UTC))
    quarantined: Counter[tuple[str, str]] = Counter()
    used: set[str] = set()
    subjects = events = observations = retractions = 0
    for part, identified in enumerate(track(source.batches(), f"ingest {source.name}", len(source))):
        check_stays(identified)
        batch = identified if source.is_export else _pseudonymise(identified, pseudonyms)
        if batch is not identified:  # an export holds no identifiers
            identities.store(dict(zip(batch.stays["subject_id"], identified.stays["subject_id"].astype(str), strict=True)))
        checked = check_observations(batch, source, now)
        quarantine = checked.quarantined
        home.cohort.write(
            part,
            observations=checked.accepted,
            quarantine=quarantine.astype({"value": "string"}),  # unchanged, and some values are no numbers
            retractions=checked.retractions.astype({"value": "string"}),
            stays=batch.stays,
            outcomes=batch.outcomes,
        )
        used.update(map(measured_signal, checked.accepted["signal"].unique()))
        quarantined.update(zip(quarantine["signal"].map(name_signal).astype(str), quarantine["reason"], strict=True))
        subjects += len(batch.stays)
        events += len(batch.outcomes)
        observations += len(checked.accepted)
        retractions += len(checked.retractions)
    home.record_use("signals", used)
    home.record_use("tasks", [source.task.name])
    reasons: Counter[str] = Counter()
    signals: dict[str, Counter[str]] = {}
    for (signal, reason), count in sorted(quarantined.items()):
        reasons[reason] += count
        signals.setdefault(signal if signal in STORED else "other", Counter())[reason] += count
    facts = CohortFacts(
        source=source.name,
        simulated=source.simulated,
        task=source.task.name,
        subjects=subjects,
        events=events,
        observations=observations,
        retractions=retractions,
        quarantined=dict(reasons),
        quarantined_signals={signal: dict(counts) for signal, counts in signals.items()},
    )
    home.cohort.finish(facts)
    return facts


def check_readings(readings: pd.DataFrame, source: Source, now: pd.Timestamp | None = None) -> CheckedObservations:
    """Check readings by what their source declares; those of an export were resolved before."""
    return check_resolved(readings, now) if source.is_export else check(readings, now, source.declared)


def check_observations(batch: Batch, source: Source, now: pd.Timestamp) -> CheckedObservations:
    """Check the observations of a batch by what its source declares. Those that belong to no stay are quarantined, too.

    Args:
        batch: of the source.
        source: whose declarations count.
        now: the present; times of a source that shifts its dates may lie after it.
    """
    checked = check_readings(batch.observations, source, None if source.shifted_dates else now)
    stray = ~checked.accepted["subject_id"].isin(batch.stays["subject_id"])
    if not stray.any():
        return checked
    parts = [checked.quarantined, checked.accepted[stray].assign(reason="no_stay")]
    columns = dict.fromkeys(name for part in parts for name in part)
    quarantined = pd.concat([part for part in parts if len(part)], ignore_index=True).reindex(columns=list(columns))
    return replace(checked, accepted=checked.accepted[~stray], quarantined=quarantined)


def _refuse_other_source(source: Source, home: Home) -> None:
    """Refuse to replace the cohort of another source, which a slip of the command line would lose."""
    try:
        present = home.cohort.facts
    except NoCohortError:
        return
    if present.source != source.name:
        raise SourceError(
            f"--home {home.path}: holds the cohort of {present.source}; name another --home, or replace it: --replace"
        )


def _open_pseudonyms(source: Source, home: Home) -> Pseudonyms:
    pseudonyms = open_pseudonyms(home.path, first=OPEN_KEY if source.deidentified else None)
    if pseudonyms.is_open and not source.deidentified:
        raise PseudonymError(
            f"--source {source.name}: its patients are not de-identified, and {home.path / KEY_FILE} holds the published key; "
            "expected a secret key; name another --home, which will have its own"
        )
    return pseudonyms


def _pseudonymise(batch: Batch, pseudonyms: Pseudonyms) -> Batch:
    def pseudonymise(table: pd.DataFrame) -> pd.DataFrame:
        if "subject_id" not in table:
            return table  # check() reports a missing column of observations
        return table.assign(subject_id=pseudonyms.subject_keys(table["subject_id"]))

    return Batch(pseudonymise(batch.observations), pseudonymise(batch.stays), pseudonymise(batch.outcomes))


def _check_columns(stays: pd.DataFrame, outcomes: pd.DataFrame) -> None:
    """Name all missing columns at once."""
    tables = (("stays", stays, STAYS), ("outcomes", outcomes, OUTCOMES))
    missing = [f"{name}.{column}" for name, table, columns in tables for column in columns if column not in table]
    if missing:
        raise SourceError(
            f"{', '.join(missing)}: missing; expected stays with {', '.join(STAYS)}; outcomes with {', '.join(OUTCOMES)}"
        )


def check_stays(batch: Batch) -> None:
    """Check the contract of stays and outcomes.

    Raises:
        SourceError: with the first rule that is broken.
    """
    stays, outcomes = batch.stays, batch.outcomes
    _check_columns(stays, outcomes)
    unclear = sum(not is_identifier(str(name)) for name in stays["subject_id"].dropna() if name != "")
    if unclear:
        raise SourceError(
            f"stays.subject_id: {unclear} with a blank at an end, an invisible character, or a character that has two "
            "spellings; expected identifiers that cannot be mistaken for each other; correct them in the source"
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
