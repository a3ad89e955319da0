"""The commands about drift, and about taking a model out of use. Thin, like all of :mod:`vigil.pipelines.cli`."""

from pathlib import Path
from typing import Annotated

import typer

from vigil.pipelines.cli.options import DEFAULT_HOME, OUT, Data, HomePath, Json, SourceName, job, write
from vigil.pipelines.environment import LOOPBACK

drift_app = typer.Typer(
    invoke_without_command=True,
    help=(
        "Assess the last day: detect faults, tell whether risks can be trusted, and decide by the change control plan. Exit "
        "status 0: fine, 1: drift, 3: broken."
    ),
)

Hours = Annotated[
    float | None,
    typer.Option("--hours", min=0.01, help="Use predictions of the last so many hours only; default: of the last day."),
]
Outcomes = Annotated[
    Path | None,
    typer.Option("--outcomes", help="CSV or Parquet file with patient_id, end, onset: known outcomes, one row a patient."),
]
ReplayFolder = Annotated[
    Path | None,
    typer.Option("--replay", help="Assess this folder of vigil simulate-fault instead; nothing in use changes."),
]
Act = Annotated[bool, typer.Option("--act", help="Also recalibrate or retrain, where the plan asks for it.")]
UiPort = Annotated[int, typer.Option("--port", min=1, max=65535, help=f"Port on {LOOPBACK}.")]
FaultName = Annotated[
    str, typer.Argument(help="Name of a fault, such as fahrenheit, stuck or late. none: a clean day. list: show all names.")
]
Strength = Annotated[float, typer.Option("--strength", min=0, max=1, help="From 0 (hardly noticeable) to 1 (obvious).")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the day, the location and all draws.")]
Where = Annotated[
    list[str] | None, typer.Option("--where", help="Gateway or device that the fault hits; repeatable; default: drawn.")
]
To = Annotated[Path | None, typer.Option("--to", help="Folder to write; default: HOME/replays/NAME.")]
Version = Annotated[str | None, typer.Option("--version", help="Model version; default: the champion.")]
Because = Annotated[str, typer.Option("--because", help="The reason. It is recorded, so do not name patients.")]


@drift_app.callback()
def drift(
    context: typer.Context,
    hours: Hours = None,
    outcomes: Outcomes = None,
    replay: ReplayFolder = None,
    act: Act = False,
    home_path: HomePath = DEFAULT_HOME,
    to: Json = None,
) -> None:
    """Assess the last day."""
    if context.invoked_subcommand is not None:
        return
    with job(home_path, to) as home:
        from vigil.pipelines.drift.job import EXIT
        from vigil.pipelines.drift.job import run_drift as assess
        from vigil.pipelines.jobs.train import train

        result = assess(home, hours=hours, outcomes=outcomes, replay=replay, act=act, retrain=train)
        assessment = result.assessment
        for finding in assessment.findings:
            OUT.print(f"{finding.fault}: {finding.sentence()}", soft_wrap=True, highlight=False)
        if result.outcomes is not None:
            OUT.print(f"outcomes: {result.outcomes.known} of {result.outcomes.given} patients are known here", highlight=False)
        number = len(assessment.faults())
        faults = f"{number} {'fault' if number == 1 else 'faults'} detected"
        drifted = f"{assessment.share:.0%} of the features drifted"
        plan = f"plan: {result.decision.action}, {result.decision.outcome}"
        OUT.print(f"{result.status.name.lower()}: {faults}, {drifted}; {plan}", soft_wrap=True, highlight=False)
        page = home.reports / ("drill" if replay else "") / "drift.html"
        OUT.print(f"{page}; history: vigil drift ui", soft_wrap=True)
        write(to, result.as_dict())
    raise typer.Exit(EXIT[result.status])


@drift_app.command()
def ui(port: UiPort = 8001, home_path: HomePath = DEFAULT_HOME) -> None:
    """Show the history of reports in Evidently's own page, on this machine only, until Ctrl-C."""
    with job(home_path) as home:
        import os
        import shutil
        import sys

        from vigil.features.errors import VigilError

        workspace = home.reports / "evidently"
        if not workspace.is_dir():
            raise VigilError(f"{workspace}: no report yet; make one first: vigil drift --home {home.path}")
        program = shutil.which("evidently", path=str(Path(sys.executable).parent))
        if program is None:
            raise VigilError("evidently: its command is not beside this Python; install again: make install")
        OUT.print(f"http://{LOOPBACK}:{port}  (aggregates of patients; stop: Ctrl-C)", highlight=False)
        command = [program, "ui", "--host", LOOPBACK, "--port", str(port), "--workspace", str(workspace)]
        os.execv(program, command)  # noqa: S606 - the library's own command


def simulate_fault(
    name: FaultName,
    source: SourceName = None,
    data: Data = None,
    strength: Strength = 0.5,
    seed: Seed = 7,
    where: Where = None,
    folder: To = None,
    home_path: HomePath = DEFAULT_HOME,
    to: Json = None,
) -> None:
    """Put a fault into a replay of patients from outside this home, for vigil drift --replay to assess."""
    with job(home_path, to) as home:
        from vigil.models.monitoring.faults import FAULTS

        if name == "list":
            for fault in FAULTS.values():
                OUT.print(f"{fault.name}: {fault.says}", highlight=False)
            return
        from vigil.pipelines.drift.drill.simulate import FOLDER
        from vigil.pipelines.drift.drill.simulate import simulate_fault as simulate
        from vigil.pipelines.sources import open_source
        from vigil.pipelines.sources.simulated import SimulatedWard

        patients = SimulatedWard(seed=seed) if source in (None, "simulated") and data is None else open_source(source, data)
        folder = folder or home.path / FOLDER / name
        recent, hit = simulate(home, name, patients, strength=strength, seed=seed, where=tuple(where or ()), to=folder)
        if hit is not None:
            signal, location = hit.signal or "everything", " and ".join(hit.where) or "the whole ward"
            OUT.print(f"{hit.fault}: {signal} at {location}, since {hit.since:%Y-%m-%d %H:%M} UTC", highlight=False)
        OUT.print(
            f"{len(recent.rows):,} readings, {len(recent.log):,} predictions in {folder}; next: vigil drift --replay {folder} "
            f"--home {home.path}",
            soft_wrap=True,
            highlight=False,
        )
        write(to, recent.facts)


def withdraw(because: Because, version: Version = None, home_path: HomePath = DEFAULT_HOME) -> None:
    """Take a model out of use at once, and record the reason: risks are NEWS2 until it is reinstated."""
    with job(home_path) as home:
        from vigil.pipelines.drift.decisions import withdraw as withdraw_version

        OUT.print(withdraw_version(home, because, version).outcome, highlight=False)


def reinstate(because: Because, version: Version = None, home_path: HomePath = DEFAULT_HOME) -> None:
    """Put a withdrawn model back into use when the cause is gone, and record the reason."""
    with job(home_path) as home:
        from vigil.pipelines.drift.decisions import reinstate as reinstate_version

        OUT.print(reinstate_version(home, because, version).outcome, highlight=False)
