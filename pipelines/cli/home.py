"""The commands about a home and its server: serve, tokens, replay, retention, clock, backups. Thin, as all of them."""

from pathlib import Path
from typing import Annotated

import typer

from features.errors import VigilError
from pipelines.cli.options import DEFAULT_HOME, OUT, Home, Json, job, write
from pipelines.environment import DEFAULT_PORT, LOOPBACK

Port = Annotated[int, typer.Option("--port", min=1, max=65535, help=f"Port on {LOOPBACK}.")]
Host = Annotated[str, typer.Option("--host", help="Address to listen on; beyond this machine only with TLS.")]
Certificate = Annotated[Path | None, typer.Option("--certificate", help="TLS certificate with its chain, PEM.")]
Key = Annotated[Path | None, typer.Option("--key", help="Its private key, PEM.")]
Check = Annotated[bool, typer.Option("--check", help="Only say what would be done.")]
Scopes = Annotated[
    list[str] | None, typer.Option("--scope", help="What it allows, such as risk:read; repeatable; default: everything.")
]
Wards = Annotated[
    list[str] | None, typer.Option("--ward", help="Ward whose patients may be seen; repeatable; default: all wards.")
]
Lifetime = Annotated[int, typer.Option("--hours", min=1, max=24, help="How long the token is good for.")]
Subject = Annotated[str, typer.Option("--subject", help="Whom the token speaks for.")]
Sample = Annotated[int, typer.Option("--sample", min=1, help="So many predictions, taken at random.")]
Days = Annotated[int, typer.Option("--days", help="What is older than so many days is dropped; at least 4.")]
Settle = Annotated[bool, typer.Option("--settle", help="The clock is right now: record what was ahead as of the present.")]
Labels = Annotated[
    bool, typer.Option("--labels", help="Also alarms that were overridden with a reason, from which one can learn.")
]
BackupTo = Annotated[Path, typer.Option("--to", help="A new or empty folder; a hospital's own, since it holds everything.")]
BackupKey = Annotated[
    Path | None, typer.Option("--key", help="backup.key of the home that the backup was taken of; kept elsewhere.")
]
Trust = Annotated[bool, typer.Option("--trust", help="Take a backup that nobody can vouch for, as one takes a program.")]
BackupFrom = Annotated[Path, typer.Option("--from", help="The folder of a backup.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Another one takes others.")]


def serve(
    home: Home = DEFAULT_HOME,
    port: Port = DEFAULT_PORT,
    host: Host = LOOPBACK,
    certificate: Certificate = None,
    key: Key = None,
) -> None:
    """Keep the prediction API up: readings in, risks and alarms out. Without a model it says so, and gives NEWS2."""
    with job(home):
        import os

        from models.registry import NoModelError, Registry
        from pipelines.cohort_store import served_task
        from pipelines.operations.server import Tls, bound, check_exposure, server_command
        from pipelines.operations.upgrade import upgrade as bring_up_to_date

        if (certificate is None) != (key is None):
            raise VigilError("--certificate, --key: one without the other; expected both, or none")
        tls = Tls(certificate, key) if certificate and key else None
        home.mkdir(parents=True, exist_ok=True)
        check_exposure(home, host, tls)
        listener = bound(host, port)
        bring_up_to_date(home)
        task = served_task(home)
        try:
            Registry.existing(home).version_of(task, "champion")
        except NoModelError as error:
            OUT.print(f"no model, so risks are NEWS2 until there is one: {error}", soft_wrap=True, highlight=False)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the registry: readings are taken, and NEWS2 given
            OUT.print(
                f"no model, so risks are NEWS2 until there is one: registry {home / 'mlflow.db'} cannot be read "
                f"({type(error).__name__}); restore it from a backup",
                soft_wrap=True,
                highlight=False,
            )
        OUT.print(f"{'https' if tls else 'http'}://{host}:{port}/v1/docs  (a token: vigil token --home {home}; stop: Ctrl-C)")
        command, environment = server_command(listener, home, task, tls)
        os.execve(command[0], command, environment)  # noqa: S606 - our own module


def upgrade(check: Check = False, home: Home = DEFAULT_HOME, to: Json = None) -> None:
    """Bring a home up to date with this version; vigil serve does so, too. Exits 1 if --check finds something to do."""
    with job(home, to):
        from dataclasses import asdict

        from pipelines.operations import upgrade as upgrades

        found = upgrades.check(home) if check else upgrades.upgrade(home)
        OUT.print(found.sentence(), soft_wrap=True, highlight=False)
        write(to, asdict(found))
    raise typer.Exit(1 if check and found.changes else 0)


def token(
    scope: Scopes = None, ward: Wards = None, hours: Lifetime = 8, subject: Subject = "local", home: Home = DEFAULT_HOME
) -> None:
    """A bearer token for the prediction API of this home, alone on standard output."""
    with job(home):
        from datetime import timedelta

        from serving.auth.local_tokens import local_token

        lifetime = timedelta(hours=hours)
        typer.echo(local_token(home, subject=subject, scopes=scope or None, wards=ward or None, lifetime=lifetime))


def replay(sample: Sample = 200, seed: Seed = 2026, home: Home = DEFAULT_HOME, to: Json = None) -> None:
    """Make past predictions again from journal, cohort and registry. Exits 0 if all are the same bit for bit, else 1."""
    with job(home, to):
        from pipelines.cli.tables import replay_table
        from pipelines.operations.reproduce import replay as make_again

        found = make_again(home, sample, seed)
        OUT.print(replay_table(found))
        for prediction_id, columns in list(found.different.items())[:10]:
            OUT.print(f"different: {prediction_id}: {', '.join(columns)}", highlight=False)
        write(to, found.as_dict())
    raise typer.Exit(1 if found.different else 0)


def clock(settle: Settle = False, home: Home = DEFAULT_HOME, to: Json = None) -> None:
    """Show whether readings were recorded while the clock was ahead. Exits 1 where they were; --settle records them anew."""
    with job(home, to):
        from pipelines.operations.clock import look, settle_clock

        found = settle_clock(home) if settle else look(home)
        OUT.print(found.sentence(), soft_wrap=True, highlight=False)
        write(to, found.as_dict())
    raise typer.Exit(1 if found.is_ahead else 0)


def retention(days: Days, labels: Labels = False, home: Home = DEFAULT_HOME, to: Json = None) -> None:
    """Drop readings, predictions, events, ended alarms and forgotten identities that are old, while the server runs or not."""
    with job(home, to):
        from pipelines.cli.tables import retention_table
        from pipelines.operations.retention import retention as drop

        dropped = drop(home, days, labels=labels)
        OUT.print(retention_table(dropped))
        write(to, {"before": dropped.before, "rows": dropped.rows, "bytes_freed": dropped.bytes_freed})


def backup(to: BackupTo, home: Home = DEFAULT_HOME) -> None:
    """Copy everything that cannot be made again, while the server runs or not; whoever has the copy knows the patients."""
    with job(home):
        from pipelines.operations.backup import BACKUP_KEY
        from pipelines.operations.backup import backup as copy_home

        files = copy_home(home, to).files
        OUT.print(
            f"{len(files):,} files, {sum(file.size for file in files.values()) / 1e6:,.1f} MB in {to}; to restore it you will "
            f"need {home / BACKUP_KEY}, which is not in it: keep that elsewhere",
            soft_wrap=True,
        )


def restore(source: BackupFrom, key: BackupKey = None, trust: Trust = False, home: Home = DEFAULT_HOME) -> None:
    """Make a home of a backup, at any path; every byte of it is checked first, and that the backup is ours."""
    with job(home):
        from pipelines.operations.backup import restore as restore_home

        if (key is None) == (not trust):
            raise VigilError(
                "--key, --trust: expected one of the two: --key names backup.key of the home that the backup was taken of; "
                "--trust takes it as it is, and whoever could change it could run programs here"
            )
        manifest = restore_home(source, home, key)
        OUT.print(f"{home}: as of {manifest.taken_at}; next: vigil serve --home {home}", soft_wrap=True, highlight=False)
