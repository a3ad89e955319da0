"""The commands about drift. Thin, as all of :mod:`pipelines.cli.main`."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines.cli.options import DEFAULT_HOME, OUT, Data, Home, Json, SourceName, job, write
from pipelines.environment import LOOPBACK

drift_app = typer.Typer(
    invoke_without_command=True,
    help="Judge the last day: name faults, whether risks can be trusted, decide by plan. Exits 0 fine, 1 drift, 3 broken.",
)

Hours = Annotated[
    float | None, typer.Option("--hours", min=0.01, help="Only predictions of the last hours; default: of a day.")
]
Outcomes = Annotated[
    Path | None,
    typer.Option("--outcomes", help="CSV or Parquet of patient_id, end, onset: what became of patients, once it is known."),
]
Replayed = Annotated[
    Path | None, typer.Option("--replay", help="Instead judge a folder of vigil simulate-fault; nothing in use changes.")
]
Acting = Annotated[bool, typer.Option("--act", help="Also recalibrate or retrain, where the plan asks for it.")]
UiPort = Annotated[int, typer.Option("--port", min=1, max=65535, help=f"Port on {LOOPBACK}.")]
FaultName = Annotated[str, typer.Argument(help="Such as fahrenheit, stuck or late; none: a clean day; list: all of them.")]
Strength = Annotated[float, typer.Option("--strength", min=0, max=1, help="0 hardly, 1 grossly.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of day, place and draws; another one hits others.")]
Where = Annotated[list[str] | None, typer.Option("--where", help="Gateway or device that is hit; repeatable; default: drawn.")]
To = Annotated[Path | None, typer.Option("--to", help="Folder to write; default: HOME/replays/NAME.")]
Version = Annotated[str | None, typer.Option("--version", help="Model version; default: the champion.")]
Because = Annotated[str, typer.Option("--because", help="Why; it is recorded. Nothing of a patient.")]


@drift_app.callback()
def drift(
    context: typer.Context,
    hours: Hours = None,
    outcomes: Outcomes = None,
    replay: Replayed = None,
    act: Acting = False,
    home: Home = DEFAULT_HOME,
    to: Json = None,
) -> None:
    """Judge the last day."""
    if context.invoked_subcommand is not None:
        return
    with job(home, to):
        from pipelines.drift.job import EXIT
        from pipelines.drift.job import drift as judge

        found = judge(home, hours=hours, outcomes=outcomes, replay=replay, act=act)
        status, said = found.status.name.lower(), found.judgement
        for finding in said.findings:
            OUT.print(f"{finding.fault}: {finding.sentence()}", soft_wrap=True, highlight=False)
        named = f"{len(said.findings)} {'fault' if len(said.findings) == 1 else 'faults'} named"
        drifted = f"{said.share:.0%} of the features drifted"
        plan = f"plan: {found.decision.action}, {found.decision.outcome}"
        OUT.print(f"{status}: {named}, {drifted}; {plan}", soft_wrap=True, highlight=False)
        OUT.print(
            f"{home / 'reports' / ('rehearsal' if replay else '') / 'drift.html'}; history: vigil drift ui", soft_wrap=True
        )
        write(to, found.as_dict())
    raise typer.Exit(EXIT[found.status])


@drift_app.command()
def ui(port: UiPort = 8001, home: Home = DEFAULT_HOME) -> None:
    """Show the history of reports in Evidently's own page, on this machine only, until Ctrl-C."""
    with job(home):
        import os
        import shutil
        import sys

        from features.errors import VigilError

        workspace = home / "reports" / "evidently"
        if not workspace.is_dir():
            raise VigilError(f"{workspace}: no report yet; make one first: vigil drift --home {home}")
        program = shutil.which("evidently", path=str(Path(sys.executable).parent))
        if program is None:
            raise VigilError("evidently: its command is not beside this Python; install anew: make install")
        OUT.print(f"http://{LOOPBACK}:{port}  (aggregates of patients; stop: Ctrl-C)", highlight=False)
        command = [program, "ui", "--host", LOOPBACK, "--port", str(port), "--workspace", str(workspace)]
        os.execv(program, command)  # noqa: S606 - the library's own command


def simulate_fault(
    name: FaultName,
    source: SourceName = "simulated",
    data: Data = None,
    strength: Strength = 0.5,
    seed: Seed = 7,
    where: Where = None,
    folder: To = None,
    home: Home = DEFAULT_HOME,
    to: Json = None,
) -> None:
    """Put a fault into a replay of other patients than those of this home, for vigil drift --replay to judge."""
    with job(home, to):
        from models.monitoring.faults import FAULTS

        if name == "list":
            for fault in FAULTS.values():
                OUT.print(f"{fault.name}: {fault.says}", highlight=False)
            return
        from pipelines.drift.drill.simulate import FOLDER
        from pipelines.drift.drill.simulate import simulate_fault as simulate
        from pipelines.sources import open_source
        from pipelines.sources.simulated import SimulatedWard

        chosen = SimulatedWard(seed=seed) if source == "simulated" and data is None else open_source(source, data)
        folder = folder or home / FOLDER / name
        recent, hit = simulate(home, name, chosen, strength=strength, seed=seed, where=tuple(where or ()), to=folder)
        if hit is not None:
            signal, place = hit.signal or "everything", " and ".join(hit.where) or "the whole ward"
            OUT.print(f"{hit.fault}: {signal} at {place}, since {hit.since:%Y-%m-%d %H:%M} UTC", highlight=False)
        OUT.print(
            f"{len(recent.rows):,} readings, {len(recent.log):,} predictions in {folder}; next: vigil drift --replay {folder} "
            f"--home {home}",
            soft_wrap=True,
            highlight=False,
        )
        write(to, recent.about)


def withdraw(because: Because, version: Version = None, home: Home = DEFAULT_HOME) -> None:
    """Let a model not be asked any more, at once: risks are NEWS2 until it is reinstated; recorded with the reason."""
    with job(home):
        from pipelines.drift.decisions import withdraw as ask_no_more

        OUT.print(ask_no_more(home, because, version).outcome, highlight=False)


def reinstate(because: Because, version: Version = None, home: Home = DEFAULT_HOME) -> None:
    """Let a withdrawn model be asked again, because the cause is gone; recorded with the reason."""
    with job(home):
        from pipelines.drift.decisions import reinstate as ask_again

        OUT.print(ask_again(home, because, version).outcome, highlight=False)
