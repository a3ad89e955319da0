"""What each source of a home sends, and taking what was quarantined after all, once its source declares what it meant."""

import getpass
import json
from collections import Counter
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from vigil.features.errors import VigilError
from vigil.features.observations import REASONS as ALL_REASONS
from vigil.features.signals import STORED
from vigil.pipelines.home import Home
from vigil.pipelines.proposed_units import propose_unit
from vigil.serving.records import journal
from vigil.serving.records.journal import Journal
from vigil.serving.records.source_settings import SourceSettingsFile
from vigil.serving.stream.ingestion import SentObservation, to_row

REASONS: Final = ("missing_unit", "missing_time", "undeclared_range")  # what a declaration can put right


@dataclass(frozen=True)
class SourceRow:
    """One signal of one source.

    Attributes:
        source: name of the gateway; empty: none was named.
        accepted: observations that count.
        quarantined: the others that wait in the quarantine, by reason.
        stopped_after_minutes: when the next observation is overdue at the latest, as the source declares; None: by what is
            learned of each patient's rhythm alone.
        proposal: a unit that the values without a unit fit, and in words how well; None: there is none.
    """

    source: str
    signal: str
    accepted: int
    quarantined: dict[str, int]
    stopped_after_minutes: float | None = None
    proposal: tuple[str, str] | None = None


def summarise_sources(home: Home) -> list[SourceRow]:
    """Return what each source sends, and propose units for what it sends without one.

    Raises:
        VigilError: the home has no journal.
    """
    records = _open_journal(home)
    accepted = records.count_accepted()
    waiting = records.quarantined_for(list(ALL_REASONS))
    declared = SourceSettingsFile(home.path).declarations()
    quarantined: dict[tuple[str, str], Counter[str]] = {}
    values: dict[tuple[str, str], list[float]] = {}
    for row in waiting:
        key = (row.sent.get("source") or "", str(row.sent.get("signal")))
        quarantined.setdefault(key, Counter())[row.reason] += 1
        if row.reason == "missing_unit" and isinstance(row.sent["value"], float | int) and not row.sent.get("comparator"):
            values.setdefault(key, []).append(float(row.sent["value"]))
    return [
        SourceRow(
            source,
            signal if signal in STORED else "other",
            accepted.get((source, signal), 0),
            dict(quarantined.get((source, signal), {})),
            declared.of(source or None).stopped_after_minutes.get(signal),
            propose_unit(signal, values.get((source, signal), [])),
        )
        for source, signal in sorted(accepted.keys() | quarantined.keys())
    ]


def readmit(home: Home, because: str) -> dict[str, int]:
    """Take what was quarantined and can be used by the present declarations; return how many, by what became of them.

    It counts from now on, not from when it was sent, since no risk could know it.

    Raises:
        VigilError: the home has no journal, or its declarations cannot be used.
    """
    records, settings = _open_journal(home), SourceSettingsFile(home.path, strict=True)
    declared = settings.declarations()
    names = {field.name for field in fields(SentObservation)} - {"patient_id"}
    rows = {}
    for row in records.quarantined_for(REASONS):
        sent = SentObservation(patient_id="", **{name: value for name, value in row.sent.items() if name in names})
        rows[row.seq] = to_row(row.subject_id, sent, declared.of(sent.source))
    declarations = json.dumps({name: _described(source) for name, source in declared.sources.items()})
    receipts = records.readmit(rows, declared, by=getpass.getuser(), because=because, declarations=declarations)
    return dict(Counter(receipt.status for receipt in receipts))


def _described(declaration: Any) -> dict[str, Any]:
    return {name: str(value) for name, value in asdict(declaration).items() if value}


def _open_journal(home: Home) -> Journal:
    if not (home.path / journal.SCHEMA.file).exists():
        raise VigilError(f"--home {home.path}: no {journal.SCHEMA.file} there; expected a home that vigil serve has made")
    return Journal(home.path)
