"""Commands about your own cohort: draft the mapping of its tables, and check what it gives."""

from pathlib import Path
from typing import Annotated

import typer

from vigil.features.errors import VigilError
from vigil.pipelines.cli.options import (
    DEFAULT_HOME,
    OUT,
    Data,
    HomePath,
    Json,
    Mapping,
    SourceName,
    TaskFile,
    job,
    reported_errors,
    write,
)

cohort_app = typer.Typer(
    no_args_is_help=True,
    help="Bring your own tables: draft a mapping of their columns, and check what becomes of them. Export a cohort.",
)

Files = Annotated[list[Path], typer.Argument(help="CSV or Parquet files of one folder.")]
MappingTo = Annotated[Path, typer.Option("--out", help="Write the mapping to this file, which must not exist.")]
TimeZone = Annotated[str | None, typer.Option("--time-zone", help="Of times without one, such as Europe/Berlin.")]
Format = Annotated[str, typer.Option("--format", help="meds (MEDS 0.4) or omop (OMOP common data model 5.4).")]
ExportTo = Annotated[Path, typer.Option("--out", help="New or empty folder for the export.")]


@cohort_app.command()
def draft(files: Files, out: MappingTo = Path("cohort.toml"), time_zone: TimeZone = None) -> None:
    """Propose a mapping from the names, units and values of columns, with its doubts. Look at it before you use it."""
    with reported_errors(out):
        from vigil.pipelines.cli.cohort_tables import doubts_text
        from vigil.pipelines.sources.table.draft import draft as draft_mapping

        if out.exists():
            raise VigilError(f"--out {out}: exists; name another file, or remove it first")
        proposed = draft_mapping(files, time_zone)
        out.write_text(proposed.text, encoding="utf-8")
        OUT.print(doubts_text(proposed.doubts, out, files[0].parent), soft_wrap=True, highlight=False)


@cohort_app.command()
def check(
    source: SourceName = None, data: Data = None, mapping: Mapping = None, task: TaskFile = None, to: Json = None
) -> None:
    """Show what becomes of a cohort: signals, quarantine, facts, outcomes. Nothing is stored. Exits 1 if nothing is usable."""
    with reported_errors(to):
        from dataclasses import asdict

        from vigil.pipelines.cli.cohort_tables import check_tables
        from vigil.pipelines.jobs.check_cohort import check_cohort
        from vigil.pipelines.sources import open_source

        result = check_cohort(open_source(source, data, mapping, task))
        OUT.print(check_tables(result))
        write(to, asdict(result))
    raise typer.Exit(0 if any(signal.accepted for signal in result.signals.values()) else 1)


@cohort_app.command()
def export(written: Format, out: ExportTo, home_path: HomePath = DEFAULT_HOME, to: Json = None) -> None:
    """Write the cohort of a home for other programs, under pseudonyms. vigil ingest --source FORMAT reads it back."""
    with job(home_path, to) as home:
        from dataclasses import asdict

        from vigil.pipelines.exports import export_cohort

        result = export_cohort(home, written, out)
        OUT.print(
            f"{out}: {result.patients:,} patients, {result.stays:,} stays, {result.observations:,} observations, "
            f"{result.outcomes:,} outcomes; no identifiers; to read it back: vigil ingest --source {written} --data {out}",
            soft_wrap=True,
            highlight=False,
        )
        write(to, {**asdict(result), "folder": str(out)})
