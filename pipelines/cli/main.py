"""The `vigil` command. Thin: heavy libraries are imported inside the commands, so that --help answers at once."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from features.errors import VigilError
from pipelines.cli.drift import drift_app, reinstate, simulate_fault, withdraw
from pipelines.cli.home import backup, clock, replay, restore, retention, serve, token, upgrade
from pipelines.cli.models import evaluate, models, promote, score, train
from pipelines.cli.options import DEFAULT_HOME, OUT, Data, Home, Json, SourceName, job, write

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Vigil: early, honest warning of deterioration from device vitals. Start with: vigil run",
)

LookBack = Annotated[float, typer.Option("--days", min=0.1, help="How far to look back.")]

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

Replace = Annotated[bool, typer.Option("--replace", help="Also where the home holds the cohort of another source.")]


@app.command()
def run(
    source: SourceName = "simulated", data: Data = None, replace: Replace = False, home: Home = DEFAULT_HOME, to: Json = None
) -> None:
    """The main job: ingest, features, Feast, train, evaluate, register, materialize, predict, drift report."""
    with job(home, to):
        from dataclasses import asdict

        from pipelines.cli.tables import outcome_table, where_to_look
        from pipelines.jobs.run import run as run_chain
        from pipelines.sources import open_source

        outcome = run_chain(open_source(source, data), home, replace=replace)
        OUT.print(outcome_table(outcome, home))
        OUT.print(where_to_look(home), soft_wrap=True, highlight=False)
        write(to, {**asdict(outcome), "drift": outcome.drift.as_dict()})
        if outcome.problem is not None:
            raise VigilError(outcome.problem)


@app.command()
def ingest(
    source: SourceName = "simulated", data: Data = None, replace: Replace = False, home: Home = DEFAULT_HOME, to: Json = None
) -> None:
    """Check a source's readings, quarantine what cannot be used, and keep the rest. Exits 1 where nothing can be used."""
    with job(home, to):
        from dataclasses import asdict

        from pipelines.cli.tables import ingest_table
        from pipelines.jobs.ingest import ingest as ingest_source
        from pipelines.sources import open_source

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

        from pipelines.jobs.build_features import build

        built = build(home)
        OUT.print(
            f"{built.index_times:,} index times in {home / 'features'}; "
            f"of {built.computed + built.kept} parts {built.computed} computed, {built.kept} found unchanged"
        )
        result = asdict(built)
        if verify:
            from pipelines.jobs.verify_features import verify as verify_features

            verified = verify_features(home)
            OUT.print(
                f"{verified.compared:,} values of {verified.index_times:,} index times are the same, bit for bit, in batch "
                f"(through Feast's point-in-time join) and online; {verified.online_compared:,} values of "
                f"{verified.online_rows:,} rows also after the way through Feast's online store"
            )
            result |= {"verified": asdict(verified)}
        write(to, result)


@app.command()
def materialize(home: Home = DEFAULT_HOME, to: Json = None) -> None:
    """Load each patient's latest features into the online store."""
    with job(home, to):
        from pipelines.jobs.build_features import materialize as materialize_features

        patients = materialize_features(home)
        OUT.print(f"{patients:,} patients in {home / 'feast'}")
        write(to, {"patients": patients})


@app.command()
def predict(home: Home = DEFAULT_HOME, to: Json = None) -> None:
    """Score every held-out patient through the online path, into the prediction log."""
    with job(home, to):
        from pipelines.cohort_store import CohortStore
        from pipelines.jobs.predict import predict_held_out
        from serving.composition import open_scorer
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
        from pipelines.challenges.run import run as run_protocol
        from pipelines.cli.tables import benchmark_table

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

        from pipelines.cli.tables import wards_table
        from pipelines.cohort_store import CohortStore
        from pipelines.jobs.ward_thresholds import propose

        proposals = propose(home, CohortStore(home).task, days)
        OUT.print(wards_table(proposals, home))
        write(to, {"wards": [asdict(proposal) for proposal in proposals]})


_OTHERS: tuple[Callable[..., None], ...] = (
    *(train, models, evaluate, score, promote, withdraw, reinstate),
    *(serve, token, replay, clock, retention, backup, restore, upgrade),
)
for command in _OTHERS:
    app.command()(command)
app.add_typer(drift_app, name="drift")
app.command("simulate-fault")(simulate_fault)
