"""Commands about a home and its server: serve, token, reproduce, clock, retention, backup, restore and upgrade."""

from pathlib import Path
from typing import Annotated

import typer

from vigil.features.errors import VigilError
from vigil.pipelines.cli.options import DEFAULT_HOME, OUT, HomePath, Json, job, write
from vigil.pipelines.environment import DEFAULT_PORT, LOOPBACK

Port = Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen on.")]
Host = Annotated[str, typer.Option("--host", help="Address to listen on. Beyond this machine TLS is required.")]
Certificate = Annotated[Path | None, typer.Option("--certificate", help="TLS certificate with its chain, PEM.")]
Key = Annotated[Path | None, typer.Option("--key", help="Private key of the certificate, PEM.")]
LocalLogin = Annotated[
    bool,
    typer.Option("--local-login", help="Let people on this machine log in under any name and role, to try it out."),
]
Check = Annotated[bool, typer.Option("--check", help="List what would change, and change nothing.")]
Scopes = Annotated[
    list[str] | None, typer.Option("--scope", help="Scope of the token, such as risk:read; repeatable; default: all scopes.")
]
Wards = Annotated[
    list[str] | None, typer.Option("--ward", help="Ward whose patients the token may see; repeatable; default: all wards.")
]
Lifetime = Annotated[int, typer.Option("--hours", min=1, max=24, help="Lifetime of the token in hours.")]
Subject = Annotated[str, typer.Option("--subject", help="Name of the caller, for logs and the audit of alarms.")]
Sample = Annotated[int, typer.Option("--sample", min=1, help="Number of predictions, drawn at random.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the draw.")]
PredictionId = Annotated[str | None, typer.Option("--id", help="One prediction, by the id of its RiskAssessment.")]
Days = Annotated[int, typer.Option("--days", help="Delete what is older than so many days; at least 4.")]
Labels = Annotated[
    bool,
    typer.Option("--labels", help="Also delete alarms overridden with a reason, which are labels for later training."),
]
Settle = Annotated[
    bool, typer.Option("--settle", help="Correct recorded times that are ahead. First make sure that the clock is right now.")
]
Readmit = Annotated[
    bool, typer.Option("--readmit", help="Take from the quarantine what can be used by the present declarations.")
]
ReadmitBecause = Annotated[str | None, typer.Option("--because", help="Why; recorded with --readmit. Name no patient in it.")]
BackupTo = Annotated[
    Path, typer.Option("--to", help="New or empty folder for the backup. It identifies patients, so protect it as the home.")
]
BackupFrom = Annotated[Path, typer.Option("--from", help="Folder of a backup.")]
BackupKey = Annotated[
    Path | None, typer.Option("--key", help="backup.key of the home that was backed up; store it apart from the backup.")
]
Trust = Annotated[
    bool, typer.Option("--trust", help="Skip the check of the signature. A changed backup could run programs on this machine.")
]


def serve(
    home_path: HomePath = DEFAULT_HOME,
    port: Port = DEFAULT_PORT,
    host: Host = LOOPBACK,
    certificate: Certificate = None,
    key: Key = None,
    local_login: LocalLogin = False,
) -> None:
    """Run the prediction API: readings in, risks and alarms out. Without a model it gives NEWS2."""
    with job(home_path) as home:
        import os

        from vigil.pipelines.operations.server import (
            Tls,
            bind_socket,
            check_exposure,
            check_local_login,
            login_link,
            server_command,
        )
        from vigil.pipelines.operations.upgrade import upgrade as upgrade_home

        if (certificate is None) != (key is None):
            raise VigilError("--certificate, --key: one without the other; expected both, or none")
        tls = Tls(certificate, key) if certificate and key else None
        home_path.mkdir(parents=True, exist_ok=True)
        check_exposure(home, host, tls)
        if local_login:
            check_local_login(host, tls)
        listener = bind_socket(host, port)
        upgrade_home(home)
        url = f"{'https' if tls else 'http'}://{host}:{port}/v1/docs"
        OUT.print(f"{url}  (for a token: vigil token --home {home_path}; stop: Ctrl-C)")
        if local_login:
            OUT.print(f"{url.removesuffix('/v1/docs')}/login  (choose a name and a role)")
        elif (
            OUT.is_terminal and (link := login_link(home, listener, tls)) is not None
        ):  # only a terminal: logs keep what they get
            OUT.print(f"{link}  (logs in once, within 10 minutes)", soft_wrap=True, highlight=False)
        command, environment = server_command(listener, home, home.served_task, tls, local_login=local_login)
        os.execve(command[0], command, environment)  # noqa: S606 - our own module


def upgrade(check: Check = False, home_path: HomePath = DEFAULT_HOME, to: Json = None) -> None:
    """Upgrade a home to this version, as vigil serve also does. With --check: exits 1 if an upgrade is needed."""
    with job(home_path, to) as home:
        from dataclasses import asdict

        from vigil.pipelines.operations.upgrade import plan_upgrade
        from vigil.pipelines.operations.upgrade import upgrade as upgrade_home

        result = plan_upgrade(home) if check else upgrade_home(home)
        OUT.print(result.summary(), soft_wrap=True, highlight=False)
        write(to, asdict(result))
    raise typer.Exit(1 if check and result.changes else 0)


def token(
    scope: Scopes = None,
    ward: Wards = None,
    hours: Lifetime = 8,
    subject: Subject = "local",
    home_path: HomePath = DEFAULT_HOME,
) -> None:
    """Print a bearer token for the prediction API of this home, and nothing else."""
    with job(home_path):
        from datetime import timedelta

        from vigil.serving.auth.local_tokens import create_local_token

        lifetime = timedelta(hours=hours)
        typer.echo(create_local_token(home_path, subject=subject, scopes=scope or None, wards=ward or None, lifetime=lifetime))


def reproduce(
    sample: Sample = 200,
    seed: Seed = 2026,
    prediction_id: PredictionId = None,
    home_path: HomePath = DEFAULT_HOME,
    to: Json = None,
) -> None:
    """Make past predictions again from journal, cohort and registry. Exits 0 if all are equal bit for bit, else 1."""
    with job(home_path, to) as home:
        from vigil.pipelines.cli.tables import reproduction_table
        from vigil.pipelines.operations.reproduce import reproduce as reproduce_predictions

        result = reproduce_predictions(home.path, sample, seed, prediction_id)
        OUT.print(reproduction_table(result))
        for identity, columns in list(result.different.items())[:10]:
            OUT.print(f"different: {identity}: {', '.join(columns)}", highlight=False)
        write(to, result.as_dict())
    raise typer.Exit(1 if result.different else 0)


def clock(settle: Settle = False, home_path: HomePath = DEFAULT_HOME, to: Json = None) -> None:
    """Show whether readings were recorded while the clock was ahead. Exits 1 if so; --settle corrects their times."""
    with job(home_path, to) as home:
        from vigil.pipelines.operations.clock import check_clock, settle_clock

        result = settle_clock(home) if settle else check_clock(home)
        OUT.print(result.summary(), soft_wrap=True, highlight=False)
        write(to, result.as_dict())
    raise typer.Exit(1 if result.is_ahead else 0)


def sources(
    readmit: Readmit = False, because: ReadmitBecause = None, home_path: HomePath = DEFAULT_HOME, to: Json = None
) -> None:
    """Show what each gateway sends, what of it waits in the quarantine, and which units to declare for it.

    After a declaration in HOME/sources.toml, --readmit takes from the quarantine what can be used by it.
    """
    with job(home_path, to) as home:
        from dataclasses import asdict

        from vigil.pipelines.cli.tables import sources_table
        from vigil.pipelines.operations.sources import readmit as take_quarantined
        from vigil.pipelines.operations.sources import summarise_sources

        if readmit != (because is not None):
            raise VigilError("--readmit, --because: expected both or neither; the reason is recorded with your user name")
        taken = take_quarantined(home, because) if because is not None else {}
        if readmit:
            counts = (
                ", ".join(f"{count:,} {status}" for status, count in sorted(taken.items())) or "nothing waits for a declaration"
            )
            OUT.print(f"readmitted: {counts}", highlight=False)
        rows = summarise_sources(home)
        OUT.print(sources_table(rows, home_path))
        write(to, {"sources": [asdict(row) for row in rows], "readmitted": taken})


def retention(days: Days, labels: Labels = False, home_path: HomePath = DEFAULT_HOME, to: Json = None) -> None:
    """Delete old readings, predictions, events, ended alarms and unused identities. The server may run meanwhile."""
    with job(home_path, to) as home:
        from vigil.pipelines.cli.tables import retention_table
        from vigil.pipelines.operations.retention import retention as delete_old_records

        deleted = delete_old_records(home.path, days, labels=labels)
        OUT.print(retention_table(deleted))
        write(to, {"before": deleted.before, "rows": deleted.rows, "bytes_freed": deleted.bytes_freed})


def backup(to: BackupTo, home_path: HomePath = DEFAULT_HOME) -> None:
    """Copy everything that cannot be computed again. The server may run meanwhile. A backup identifies patients."""
    with job(home_path) as home:
        from vigil.pipelines.operations.backup import BACKUP_KEY
        from vigil.pipelines.operations.backup import backup as back_up_home

        files = back_up_home(home, to).files
        OUT.print(
            f"{len(files):,} files, {sum(file.size for file in files.values()) / 1e6:,.1f} MB in {to}; to restore it you will "
            f"need {home_path / BACKUP_KEY}, which is not in it: store that elsewhere",
            soft_wrap=True,
        )


def restore(source: BackupFrom, key: BackupKey = None, trust: Trust = False, home_path: HomePath = DEFAULT_HOME) -> None:
    """Make a home from a backup, at any path. Every byte and the signature are checked first."""
    with job(home_path) as home:
        from vigil.pipelines.operations.restore import restore as restore_home

        if (key is None) == (not trust):
            raise VigilError(
                "--key, --trust: expected one of the two: --key names backup.key of the home that was backed up; --trust skips "
                "the check of the signature, and a changed backup could run programs on this machine"
            )
        manifest = restore_home(source, home, key)
        OUT.print(
            f"{home_path}: as of {manifest.taken_at}; next: vigil serve --home {home_path}", soft_wrap=True, highlight=False
        )
