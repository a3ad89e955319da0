"""Tables of results that commands print."""

import math
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, get_args

import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vigil.features.observations import REASONS
from vigil.models.formatting import format_number
from vigil.models.reporting.style import order_models
from vigil.pipelines.cohort_store import CohortFacts
from vigil.pipelines.environment import LOOPBACK
from vigil.pipelines.jobs.evaluate import Metrics
from vigil.pipelines.jobs.run import RunResult
from vigil.pipelines.jobs.ward_thresholds import Proposal
from vigil.pipelines.operations.reproduce import Reproduction
from vigil.pipelines.operations.retention import Deleted
from vigil.pipelines.operations.sources import SourceRow
from vigil.serving.scoring.reproduction import Verdict

_COLUMNS: Final = {
    "auprc": "AUPRC",
    "calibration_slope": "slope",
    "event_recall": "recall",
    "alarm_precision": "prec.",
    "alarms_per_patient_day": "alarms",
    "lead_time_hours": "lead, h",
}
_LEGEND: Final = (
    "slope: calibration slope, 1 is ideal. recall, prec., alarms, lead: of alarms in the high band, per event, alarm and "
    "patient-day. Report: reports/evaluation.html."
)


def metrics_table(metrics: Metrics, title: str) -> Table:
    """Show models in rows and metrics that have a value in columns, within 80 characters."""
    shown = [metric for metric in _COLUMNS if any(math.isfinite(values[metric]) for values in metrics.values())]
    table = Table(title=title, title_justify="left", caption=_LEGEND, caption_justify="left", padding=(0, 0, 0, 1))
    table.add_column("model", no_wrap=True)
    table.add_column("AUROC (95 % CI)", justify="right", no_wrap=True)
    for metric in shown:
        table.add_column(_COLUMNS[metric], justify="right", no_wrap=True)
    for name in order_models(metrics):
        values = metrics[name]
        interval = f"{values['auroc']:.3f} ({values['auroc_low']:.2f}-{values['auroc_high']:.2f})"
        table.add_row(
            name, interval, *(format_number(values[metric], 1 if metric.endswith("hours") else 3) for metric in shown)
        )
    return table


def sources_table(rows: Sequence[SourceRow], home_path: Path) -> RenderableType:
    """Show sources and signals in rows, with what waits in the quarantine, and the declarations to consider below."""
    table = Table(padding=(0, 1, 0, 0))
    for name in ("source", "signal"):
        table.add_column(name, no_wrap=name == "signal")
    table.add_column("accepted", justify="right", no_wrap=True)
    table.add_column("in quarantine, by reason")
    table.add_column("overdue after", justify="right", no_wrap=True)
    for row in rows:
        overdue = "as learned" if row.stopped_after_minutes is None else f"{row.stopped_after_minutes:g} min"
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in sorted(row.quarantined.items()))
        table.add_row(Text(row.source or "(none named)"), row.signal, f"{row.accepted:,}", reasons, overdue)
    proposals = [row for row in rows if row.proposal is not None]
    if not proposals:
        return table
    lines = [f"If the devices send these units, write into {home_path / 'sources.toml'}, then vigil sources --readmit:"]
    for row in proposals:
        assert row.proposal is not None
        unit, fit = row.proposal
        section = f'sources."{row.source}"' if row.source else "default"
        lines += ["", f"[{section}]  # {fit} without a unit", f'units = {{ {row.signal} = "{unit}" }}']
    return Group(table, Text("\n".join(lines)))


_MANY_QUARANTINED: Final = 0.05  # share of all readings: so many point to a wrong unit or name, not to single slips


def ingest_table(facts: CohortFacts) -> RenderableType:
    """Show how many readings are stored and how many are quarantined, by signal and reason."""
    stored = f"{facts.source}: {facts.subjects:,} subjects, {facts.events:,} events, {facts.observations:,} observations"
    quarantined = sum(facts.quarantined.values())
    retracting = f", {facts.retractions:,} retractions" if facts.retractions else ""
    quarantine = f"{quarantined:,} readings in quarantine ({facts.quarantined_share:.1%})"
    parts: list[RenderableType] = [Text(f"{stored}{retracting}; {quarantine}")]
    if quarantined:
        table = Table(title="In quarantine", title_justify="left", padding=(0, 0, 0, 1))
        table.add_column("signal", no_wrap=True)
        for reason in facts.quarantined:
            table.add_column(reason, justify="right")
        for signal, counts in facts.quarantined_signals.items():
            table.add_row(signal, *(f"{counts[reason]:,}" if reason in counts else "" for reason in facts.quarantined))
        parts.append(table)
        parts += [Text(f"{reason}: {REASONS.get(reason, 'its subject has no stay')}") for reason in facts.quarantined]
    if not facts.observations:
        parts.append(Text("No reading can be used, so no model can learn from this cohort.", style="red"))
    elif facts.quarantined_share >= _MANY_QUARANTINED:
        warning = f"More than {_MANY_QUARANTINED:.0%} of the readings are in quarantine: look at the reasons before you train."
        parts.append(Text(warning, style="yellow"))
    return Group(*parts)


_MOST_SHOWN: Final = 50


def scores_table(risks: pd.DataFrame, left_out: pd.DataFrame) -> RenderableType:
    """Show the risks of a file's patients, the highest first."""
    table = Table(padding=(0, 0, 0, 1))
    for column in ("patient", "as of, UTC", "risk", "band", "by", "NEWS2", "findings"):
        table.add_column(column, justify="right" if column in {"risk", "NEWS2"} else "left", no_wrap=column != "findings")
    for row in risks.sort_values(["probability", "news2"], ascending=False)[:_MOST_SHOWN].to_dict("records"):
        table.add_row(
            row["subject_id"],
            f"{row['as_of']:%Y-%m-%d %H:%M}",
            "" if row["probability"] is None or math.isnan(row["probability"]) else f"{row['probability']:.3f}",
            row["band"],
            row["decided_by"],
            str(row["news2"]),
            row["findings"],
        )
    parts: list[RenderableType] = [table]
    if len(risks) > _MOST_SHOWN:
        parts.append(Text(f"{_MOST_SHOWN} of {len(risks):,} patients are shown; for all of them: --to FILE"))
    if len(left_out):
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out["reason"].value_counts().items())
        parts.append(Text(f"{len(left_out):,} readings are left out: {reasons}"))
    return Group(*parts)


def wards_table(proposals: Sequence[Proposal], home_path: Path) -> Table:
    """Show wards in rows; the last column is the threshold for ``wards.toml``."""
    caption = f"(none): patients in no ward. Thresholds go into {home_path / 'wards.toml'}"
    table = Table(
        title="Alarms of the wards", title_justify="left", caption=caption, caption_justify="left", padding=(0, 0, 0, 1)
    )
    table.add_column("ward", no_wrap=True)
    for column in ("patients", "patient-days", "budget a day", "threshold", "alarms a day", "keeps the budget"):
        table.add_column(column, justify="right")
    for row in proposals:
        proposed = "too few patient-days" if row.proposed is None else f"{row.proposed:.4f}"
        numbers = (f"{row.patients:,}", f"{row.patient_days:.1f}", f"{row.budget:g}", f"{row.threshold:.4f}")
        table.add_row(row.ward or "(none)", *numbers, f"{row.alarms:.2f}", proposed)
    return table


def reproduction_table(result: Reproduction) -> Table:
    """Show origins of predictions in rows and verdicts in columns."""
    table = Table(title=f"{result.sampled:,} predictions made again", title_justify="left", padding=(0, 0, 0, 1))
    table.add_column("origin", no_wrap=True)
    verdicts = get_args(Verdict)
    for verdict in ("sampled", *verdicts):
        table.add_column(verdict.replace("_", " "), justify="right")
    for origin, counts in result.origins.items():
        table.add_row(origin, f"{counts.total():,}", *(f"{counts[verdict]:,}" for verdict in verdicts))
    return table


def retention_table(deleted: Deleted) -> Table:
    """Show files and their tables in rows, with the number of rows that were deleted."""
    freed = f"{deleted.bytes_freed / 1e6:,.1f} MB returned to the disk"
    table = Table(title=f"Deleted: before {deleted.before:%Y-%m-%d %H:%M} UTC", caption=freed, title_justify="left")
    for column in ("file", "table"):
        table.add_column(column, no_wrap=True)
    table.add_column("rows", justify="right")
    for file_and_table, rows in deleted.rows.items():
        table.add_row(*file_and_table.split(), f"{rows:,}")
    return table


def _tool(name: str) -> str:
    """Return how this shell calls a program of our environment, activated or not."""
    if shutil.which(name):
        return name
    path = Path(sys.executable).parent / name
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def run_table(result: RunResult, home_path: Path) -> Group:
    """Show the results of the main job and where each is stored."""
    facts, trained = result.facts, result.trained
    first = next(iter(result.metrics.values()))
    held_out = (
        f"Held-out patients: {first['patients']:,.0f}, index times {first['index_times']:,.0f}, "
        f"prevalence {first['prevalence']:.3f}"
    )
    quarantined = ", ".join(f"{reason} {n:,}" for reason, n in facts.quarantined.items()) or "none"
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_column()
    table.add_column()
    table.add_column(no_wrap=True)  # a wrapped path cannot be copied
    for row in (
        (
            "cohort",
            f"{facts.subjects:,} stays, {facts.events:,} with an event, {facts.observations:,} observations",
            home_path / "cohort",
        ),
        ("quarantined", quarantined, home_path / "cohort/quarantine"),
        ("features", f"{result.index_times:,} index times", home_path / "features"),
        ("model", f"{trained.model_name} version {trained.version}, {trained.alias}", home_path / "mlflow.db"),
        ("evaluation", "metrics above, report", home_path / "reports/evaluation.html"),
        ("one prediction", _prediction_text(result.prediction), home_path / "predictions.db"),
        (
            "drift",
            f"{result.drift.status.name.lower()}, {result.drift.assessment.share:.0%} of the features drifted",
            home_path / "reports/drift.html",
        ),
    ):
        table.add_row(*map(str, row))
    parts: list[RenderableType] = [metrics_table(result.metrics, held_out), table]
    if facts.simulated:
        parts.append(
            Text("Simulated ward: these figures show that the chain works. They are no clinical evidence.", style="yellow")
        )
    return Group(*parts)


def _prediction_text(answer: Mapping[str, Any] | None) -> str:
    if answer is None:
        return "none: the server did not answer"
    risk = f"risk {answer['probability']:.3f} ({answer['band']}) as of {answer['as_of']}"
    news2 = f"NEWS2 {answer['news2']['score']} (at most {answer['news2']['highest']})"
    signals = ", ".join(f"{c['signal']} {c['log_odds']:+.2f}" for c in (answer["contributions"] or [])[:3])
    return f"{risk}, {news2}; {signals}"


def where_to_look(home_path: Path) -> str:
    """Return commands that open the results, one a line, each ready to copy."""
    from vigil.models.registry import registry_uri

    untracked, path, gateway = "DO_NOT_TRACK=true", shlex.quote(str(home_path)), "docs/clients/ward_gateway.py"
    return "\n".join(
        (
            "Look at it:",
            f"  {untracked} {_tool('mlflow')} ui --backend-store-uri {shlex.quote(registry_uri(home_path))} --port 5000",
            f"  {untracked} {_tool('feast')} --feature-store-yaml {path}/feature_store.yaml ui --host {LOOPBACK} --port 8888",
            f"  {_tool('vigil')} serve --home {path}    # shows a link to the ward page; the API is on its /v1/docs",
            f'  VIGIL_TOKEN="$({_tool("vigil")} token --home {path})" {_tool("python")} {gateway}    # patients for that page',
            f"  xdg-open {path}/reports/evaluation.html",
            f"  xdg-open {path}/reports/drift.html",
        )
    )
