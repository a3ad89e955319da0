"""The `vigil` command. Thin: heavy libraries are imported inside the commands, so that --help answers at once."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from features.errors import VigilError
from pipelines.command import DEFAULT_HOME, OUT, Data, Home, Json, SourceName, job, write
from pipelines.drift.commands import drift_app, reinstate, simulate_fault, withdraw
from pipelines.environment import DEFAULT_PORT, LOOPBACK

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Vigil: early, honest warning of deterioration from device vitals. Start with: vigil run",
)

Version = Annotated[str | None, typer.Option("--version", help="Model version; default: the champion.")]
ChallengerVersion = Annotated[str | None, typer.Option("--version", help="Model version; default: the challenger.")]
Rollback = Annotated[bool, typer.Option("--rollback", help="Instead return to the champion before this one, past no gate.")]
Port = Annotated[int, typer.Option("--port", min=1, max=65535, help=f"Port on {LOOPBACK}.")]
LookBack = Annotated[float, typer.Option("--days", min=0.1, help="How far to look back.")]
Host = Annotated[str, typer.Option("--host", help="Address to listen on; beyond this machine only with TLS.")]
Certificate = Annotated[Path | None, typer.Option("--certificate", help="TLS certificate with its chain, PEM.")]
Key = Annotated[Path | None, typer.Option("--key", help="Its private key, PEM.")]

Protocol = Annotated[
    str,
    typer.Argument(
        help="cinc2012, cinc2019 or ahe2009; travel2019 or travel2012: what breaks in another unit or hospital; net: what the "
        "safety net costs, on the simulated ward."
    ),
]
TrainSet = Annotated[Path | None, typer.Option("--train", help="The set to train on, as the challenge distributes it.")]
TestSet = Annotated[
    Path | None, typer.Option("--test", help="The set to score once; without it cinc2019 is five-fold by patient.")
]
Only = Annotated[
    str | None,
    typer.Option(
        "--only",
        help="Fit less: of cinc2019 the one model named here, such as all_signals; of travel2019 and travel2012 logistic, the "
        "penalties of the linear baseline.",
    ),
]
Predictions = Annotated[
    Path | None, typer.Option("--predictions", help="Also write every scored time as Parquet: model, probability, alarm.")
]

Catalogue = Annotated[
    Path | None, typer.Option("--catalogue", help="Instead write a page about every feature there, in Markdown.")
]
Verify = Annotated[
    bool,
    typer.Option("--verify", help="Then compare every value, batch against online (which loads each stay's last hour online)."),
]

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
Replace = Annotated[bool, typer.Option("--replace", help="Also where the home holds the cohort of another source.")]
ModelName = Annotated[str | None, typer.Option("--name", help="Of the registered model; default: the task's, which is served.")]
ModelSeed = Annotated[int, typer.Option("--seed", min=0, help="Of the members.")]
Service = Annotated[str | None, typer.Option("--service", help="Feature service to learn from; default: the task's.")]
OnlyVariant = Annotated[
    str | None, typer.Option("--only", help="Fit and register this variant alone, such as logistic; default: all of them.")
]
Settings_ = Annotated[
    list[str] | None, typer.Option("--set", help="A setting of the registered variant, such as num_leaves=8; repeatable.")
]
Readings = Annotated[
    Path, typer.Argument(help="CSV or Parquet: subject_id, observed_at, signal, value; optionally unit, age, sex and others.")
]
ScoresTo = Annotated[Path | None, typer.Option("--to", help="Also write the risks here, as .csv or .parquet.")]
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

app.add_typer(drift_app, name="drift")
app.command("simulate-fault")(simulate_fault)
app.command()(reinstate)
app.command()(withdraw)


@app.command()
def run(
    source: SourceName = "simulated", data: Data = None, replace: Replace = False, home: Home = DEFAULT_HOME, to: Json = None
) -> None:
    """The main job: ingest, features, Feast, train, evaluate, register, materialize, predict, drift report."""
    with job(home, to):
        from dataclasses import asdict

        from pipelines.run import run as run_chain
        from pipelines.sources import open_source
        from pipelines.tables import outcome_table, where_to_look

        outcome = run_chain(open_source(source, data), home, replace=replace)
        OUT.print(outcome_table(outcome, home))
        OUT.print(where_to_look(home), soft_wrap=True, highlight=False)
        write(to, {**asdict(outcome), "drift": outcome.drift.as_dict()})


@app.command()
def ingest(
    source: SourceName = "simulated", data: Data = None, replace: Replace = False, home: Home = DEFAULT_HOME, to: Json = None
) -> None:
    """Check a source's readings, quarantine what cannot be used, and keep the rest. Exits 1 where nothing can be used."""
    with job(home, to):
        from dataclasses import asdict

        from pipelines.ingest import ingest as ingest_source
        from pipelines.sources import open_source
        from pipelines.tables import ingest_table

        facts = ingest_source(open_source(source, data), home, replace=replace)
        OUT.print(ingest_table(facts))
        write(to, asdict(facts))
    raise typer.Exit(0 if facts.observations else 1)


@app.command()
def features(verify: Verify = False, catalogue: Catalogue = None, home: Home = DEFAULT_HOME, to: Json = None) -> None:
    """Compute the features of every index time that are not there yet, and register them in Feast."""
    with job(home, to):
        if catalogue:
            from features.catalogue_page import catalogue_page

            if not catalogue.parent.is_dir():
                raise VigilError(f"--catalogue {catalogue}: its folder does not exist; make it first")
            catalogue.write_text(catalogue_page())
            OUT.print(f"{catalogue}: every feature, explained")
            return
        from dataclasses import asdict

        from pipelines.build import build

        built = build(home)
        OUT.print(
            f"{built.index_times:,} index times in {home / 'features'}; "
            f"of {built.computed + built.kept} parts {built.computed} computed, {built.kept} found unchanged"
        )
        result = asdict(built)
        if verify:
            from pipelines.verify import verify as verify_features

            verified = verify_features(home)
            OUT.print(
                f"{verified.compared:,} values of {verified.index_times:,} index times are the same, bit for bit, in batch "
                f"(through Feast's point-in-time join) and online; {verified.online_compared:,} values of "
                f"{verified.online_rows:,} rows also after the way through Feast's online store"
            )
            result |= {"verified": asdict(verified)}
        write(to, result)


@app.command()
def train(
    name: ModelName = None,
    seed: ModelSeed = 2026,
    service: Service = None,
    only: OnlyVariant = None,
    settings: Settings_ = None,
    home: Home = DEFAULT_HOME,
    to: Json = None,
) -> None:
    """Fit, calibrate and register the model and its baselines; a first that behaves is champion, later ones challenger."""
    with job(home, to):
        from dataclasses import asdict

        from pipelines.train import train as train_models

        chosen = dict(_setting(text) for text in settings or ())
        trained = asdict(train_models(home, seed, name=name, service=service, only=only, settings=chosen))
        write(to, trained)
        refused = trained.pop("refused")
        OUT.print(trained)
        if refused:
            OUT.print(refused, soft_wrap=True, highlight=False)


def _setting(text: str) -> tuple[str, Any]:
    """``num_leaves=8`` as a name and a value."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise VigilError(f"--set {text}: expected NAME=VALUE, such as num_leaves=8")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


@app.command()
def models(name: ModelName = None, home: Home = DEFAULT_HOME, to: Json = None) -> None:
    """List the versions of the model: which is champion, when each was trained, and what it reached on held-out patients."""
    with job(home, to):
        from models.registry import Registry
        from pipelines.cohort_store import CohortStore
        from pipelines.tables import versions_table

        found = Registry.existing(home).versions(name or CohortStore(home).task.name)
        OUT.print(versions_table(found))
        write(to, {"versions": found})


@app.command()
def score(file: Readings, out: ScoresTo = None, home: Home = DEFAULT_HOME) -> None:
    """Score the readings of a file by the champion, a risk a patient; nothing is kept. Exits 1 where readings are left out."""
    with job(home, out):
        from pipelines.cohort_store import CohortStore, NoCohortError
        from pipelines.score_file import score_file
        from pipelines.tables import scores_table

        try:
            task = CohortStore(home).task.name
        except NoCohortError:
            task = "deterioration"
        risks, left_out = score_file(home, file, task)
        OUT.print(scores_table(risks, left_out))
        if out is not None:
            risks.to_csv(out, index=False) if out.suffix == ".csv" else risks.to_parquet(out, index=False)
    raise typer.Exit(1 if len(left_out) else 0)


@app.command()
def evaluate(version: Version = None, name: ModelName = None, home: Home = DEFAULT_HOME, to: Json = None) -> None:
    """Judge a model version beside its baselines on the held-out patients."""
    with job(home, to):
        from pipelines.evaluate import evaluate as evaluate_models
        from pipelines.tables import metrics_table

        metrics = evaluate_models(home, version, name)
        OUT.print(metrics_table(metrics, "Held-out patients"))
        write(to, {"models": metrics})


@app.command()
def promote(version: ChallengerVersion = None, rollback: Rollback = False, home: Home = DEFAULT_HOME, to: Json = None) -> None:
    """Make the challenger champion, if it passes every written gate on the held-out patients."""
    with job(home, to):
        if rollback and version:
            raise VigilError(
                f"--version {version}: --rollback returns to the champion before this one; leave one of the two out"
            )
        from pipelines.promote import PromotionRefusedError, roll_back
        from pipelines.promote import promote as promote_model

        try:
            decision = roll_back(home) if rollback else promote_model(home, version)
        except PromotionRefusedError as refused:
            write(to, refused.decision)
            raise
        for gate in decision.get("gates", []):
            OUT.print(f"passed {gate['name']}: {gate['found']}", highlight=False)
        for gate in decision.get("left_out", []):
            OUT.print(f"left out {gate}: there was no champion to compare with", highlight=False)
        now, before = ("previous_champion", "champion") if rollback else ("challenger", "champion")
        replaced = f" in place of {decision[before]['version']}" if decision[before] else ", the first"
        OUT.print(
            f"{decision['model']}: version {decision[now]['version']} is champion{replaced}; a server that is up takes it "
            "within seconds"
        )
        write(to, decision)


@app.command()
def materialize(home: Home = DEFAULT_HOME, to: Json = None) -> None:
    """Load each patient's latest features into the online store."""
    with job(home, to):
        from pipelines.build import materialize as materialize_features

        patients = materialize_features(home)
        OUT.print(f"{patients:,} patients in {home / 'feast'}")
        write(to, {"patients": patients})


@app.command()
def predict(home: Home = DEFAULT_HOME, to: Json = None) -> None:
    """Score every held-out patient through the online path, into the prediction log."""
    with job(home, to):
        from pipelines.cohort_store import CohortStore
        from pipelines.predict import predict_held_out
        from serving.parts import open_scorer
        from serving.settings import Settings

        answers = predict_held_out(home, open_scorer(Settings(home=home, task=CohortStore(home).task.name)))
        OUT.print(f"{len(answers):,} predictions in {home / 'predictions.db'}")
        write(to, {"predictions": len(answers)})


@app.command()
def benchmark(
    protocol: Protocol,
    train_set: TrainSet = None,
    test_set: TestSet = None,
    only: Only = None,
    to: Json = None,
    rows: Predictions = None,
) -> None:
    """An open challenge under its frozen protocol: all is chosen on the training set, the test set is scored once."""
    with job(None, to, rows):
        from pipelines.benchmark.run import run as run_protocol
        from pipelines.tables import benchmark_table

        found = run_protocol(protocol, train_set, test_set, only)
        OUT.print(benchmark_table(found))
        write(to, {**found.about, "models": found.metrics})
        if rows is not None:
            found.predictions.to_parquet(rows, index=False)


@app.command()
def wards(days: LookBack = 7, home: Home = DEFAULT_HOME, to: Json = None) -> None:
    """Propose alarm thresholds that keep each ward's budget, from its own risks of the last days; no labels are needed."""
    with job(home, to):
        from dataclasses import asdict

        from pipelines.cohort_store import CohortStore
        from pipelines.tables import wards_table
        from pipelines.ward_thresholds import propose

        proposals = propose(home, CohortStore(home).task, days)
        OUT.print(wards_table(proposals, home))
        write(to, {"wards": [asdict(proposal) for proposal in proposals]})


@app.command()
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
        from pipelines.cohort_store import CohortStore, NoCohortError
        from pipelines.server import Tls, bound, check_exposure, server_command

        if (certificate is None) != (key is None):
            raise VigilError("--certificate, --key: one without the other; expected both, or none")
        tls = Tls(certificate, key) if certificate and key else None
        home.mkdir(parents=True, exist_ok=True)
        check_exposure(home, host, tls)
        listener = bound(host, port)
        try:
            task = CohortStore(home).task.name
        except NoCohortError:
            task = "deterioration"
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


@app.command()
def token(
    scope: Scopes = None, ward: Wards = None, hours: Lifetime = 8, subject: Subject = "local", home: Home = DEFAULT_HOME
) -> None:
    """A bearer token for the prediction API of this home, alone on standard output."""
    with job(home):
        from datetime import timedelta

        from serving.local_tokens import local_token

        lifetime = timedelta(hours=hours)
        typer.echo(local_token(home, subject=subject, scopes=scope or None, wards=ward or None, lifetime=lifetime))


@app.command()
def replay(sample: Sample = 200, seed: Seed = 2026, home: Home = DEFAULT_HOME, to: Json = None) -> None:
    """Make past predictions again from journal, cohort and registry. Exits 0 if all are the same bit for bit, else 1."""
    with job(home, to):
        from pipelines.replay import replay as make_again
        from pipelines.tables import replay_table

        found = make_again(home, sample, seed)
        OUT.print(replay_table(found))
        for prediction_id, columns in list(found.different.items())[:10]:
            OUT.print(f"different: {prediction_id}: {', '.join(columns)}", highlight=False)
        write(to, found.as_dict())
    raise typer.Exit(1 if found.different else 0)


@app.command()
def clock(settle: Settle = False, home: Home = DEFAULT_HOME, to: Json = None) -> None:
    """Show whether readings were recorded while the clock was ahead. Exits 1 where they were; --settle records them anew."""
    with job(home, to):
        from pipelines.clock import look, settle_clock

        found = settle_clock(home) if settle else look(home)
        OUT.print(found.sentence(), soft_wrap=True, highlight=False)
        write(to, found.as_dict())
    raise typer.Exit(1 if found.is_ahead else 0)


@app.command()
def retention(days: Days, labels: Labels = False, home: Home = DEFAULT_HOME, to: Json = None) -> None:
    """Drop readings, predictions, events, ended alarms and forgotten identities that are old, while the server runs or not."""
    with job(home, to):
        from pipelines.retention import retention as drop
        from pipelines.tables import retention_table

        dropped = drop(home, days, labels=labels)
        OUT.print(retention_table(dropped))
        write(to, {"before": dropped.before, "rows": dropped.rows, "bytes_freed": dropped.bytes_freed})


@app.command()
def backup(to: BackupTo, home: Home = DEFAULT_HOME) -> None:
    """Copy everything that cannot be made again, while the server runs or not; whoever has the copy knows the patients."""
    with job(home):
        from pipelines.backup import BACKUP_KEY
        from pipelines.backup import backup as copy_home

        files = copy_home(home, to).files
        OUT.print(
            f"{len(files):,} files, {sum(file.size for file in files.values()) / 1e6:,.1f} MB in {to}; to restore it you will "
            f"need {home / BACKUP_KEY}, which is not in it: keep that elsewhere",
            soft_wrap=True,
        )


@app.command()
def restore(source: BackupFrom, key: BackupKey = None, trust: Trust = False, home: Home = DEFAULT_HOME) -> None:
    """Make a home of a backup, at any path; every byte of it is checked first, and that the backup is ours."""
    with job(home):
        from pipelines.backup import restore as restore_home

        if (key is None) == (not trust):
            raise VigilError(
                "--key, --trust: expected one of the two: --key names backup.key of the home that the backup was taken of; "
                "--trust takes it as it is, and whoever could change it could run programs here"
            )
        manifest = restore_home(source, home, key)
        OUT.print(f"{home}: as of {manifest.taken_at}; next: vigil serve --home {home}", soft_wrap=True, highlight=False)
