"""What the commands about a cohort show."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vigil.features.observations import REASONS
from vigil.pipelines.jobs.check_cohort import CohortCheck, SignalFacts

_MOST_CODES: Final = 8
_NAMES: Final = {"unit": "ward", "unit_admitted_at": "admission to the unit", "hospital_admitted_at": "to the hospital"}


def doubts_text(doubts: Sequence[str], out: Path, folder: Path) -> str:
    """Say what a draft leaves to decide, and what comes next."""
    data = "" if folder.resolve() == out.resolve().parent else f" --data {folder}"
    listed = "".join(f"\n  - {doubt}" for doubt in doubts)
    return (
        f"{out}: a draft of the mapping.{' Decide:' if doubts else ''}{listed}\nnext: vigil cohort check --mapping {out}{data}"
    )


def check_tables(result: CohortCheck) -> RenderableType:
    """Show a check: the cohort, its signals, what would be quarantined, and what to look at."""
    known = ", ".join(f"{_NAMES.get(name, name)} {share:.0%}" for name, share in result.known.items())
    prevalence = result.positive / result.index_times if result.index_times else math.nan
    lines = [
        f"{result.name}: {result.stays:,} stays of {result.patients:,} patients, {result.hours:.1f} h long (median)",
        f"known: {known}",
        f"task {result.task}: {result.events:,} stays with the outcome"
        + (f", {result.onset_hours:.1f} h after the start (median)" if not math.isnan(result.onset_hours) else "")
        + f"; {result.positive:,} of {result.index_times:,} times are positive ({prevalence:.2%})",
    ]
    parts: list[RenderableType] = [Text("\n".join(lines)), _signals_table(result)]
    reasons = dict.fromkeys(reason for signal in result.signals.values() for reason in signal.quarantined)
    parts += [Text(f"{reason}: {REASONS.get(reason, 'its subject has no stay')}", style="dim") for reason in reasons]
    for table, codes in result.left_out.items():
        if codes:
            shown = ", ".join(f"{code} ({count:,})" for code, count in list(codes.items())[:_MOST_CODES])
            more = ", ..." if len(codes) > _MOST_CODES else ""
            parts.append(Text(f"{table}: {sum(codes.values()):,} rows of {len(codes)} other codes left out: {shown}{more}"))
    parts += [Text(f"Look: {warning}.", style="yellow") for warning in result.warnings]
    return Group(*parts)


def _signals_table(result: CohortCheck) -> Table:
    table = Table(padding=(0, 1, 0, 0))
    table.add_column("signal", no_wrap=True)
    for heading in ("observations", "stays"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("median (1-99 %)", no_wrap=True)
    table.add_column("quarantined")
    for name, signal in result.signals.items():
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in signal.quarantined.items())
        table.add_row(name, f"{signal.accepted:,}", f"{signal.stays / result.stays:.0%}", _values(signal), reasons)
    return table


def _values(signal: SignalFacts) -> str:
    if math.isnan(signal.median):
        return ""
    return f"{signal.median:g} ({signal.low:g}-{signal.high:g}) {signal.unit}"
