"""The `vigil` command. Commands import heavy libraries inside, so that --help answers at once."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from vigil.features.errors import VigilError
from vigil.pipelines.cli.cohort import cohort_app
from vigil.pipelines.cli.drift import drift_app, reinstate, simulate_fault, withdraw
from vigil.pipelines.cli.home import backup, clock, reproduce, restore, retention, serve, sources, token, upgrade
from vigil.pipelines.cli.models import evaluate, models, promote, score, train, tune
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
    write_page,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Vigil: early, honest warning of deterioration from device vitals. Start with: vigil run",
)

LookBack = Annotated[float, typer.Option("--days", min=0.1, help="Days of risks to use, up to the present.")]

Protocol = Annotated[
    str,
    typer.Argument(
        help="cinc2012, cinc2019 or ahe2009: an open challenge; travel2019 or travel2012: transport to other units and "
        "hospitals; cgm: hypoglycaemia on glucose monitors; net: the cost of the safety net, on the simulated ward."
    ),
]
TrainSet = Annotated[
    list[Path] | None,
    typer.Option("--train", help="Training set, as it is distributed; for cgm several: repeat it, or name their folder."),
]
TestSet = Annotated[
    list[Path] | None,
    typer.Option(
        "--test", help="Test set, scored once, as --train; without it cinc2019 is five-fold by patient, cgm leaves sets out."
    ),
]
Only = Annotated[
    str | None,
    typer.Option(
        "--only",
        help="Fit less: for cinc2019 the one model named here, such as all_signals; for travel2019 and travel2012 logistic, "
        "the penalties of the linear baseline.",
    ),
]
Predictions = Annotated[
    Path | None, typer.Option("--predictions", help="Also write every scored time as Parquet: model, probability, alarm.")
]

Catalogue = Annotated[
    Path | None, typer.Option("--catalogue", help="Instead write a page in Markdown that explains every feature.")
]
Cases = Annotated[
    Path | None, typer.Option("--cases", help="Instead write a page in Markdown of readings, and what becomes of them.")
]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify",
        help="Then compare every value in training with the same value in serving. Loads each stay's last index time online.",
    ),
]

Replace = Annotated[bool, typer.Option("--replace", help="Also replace the cohort of another source.")]


@app.command()
def run(
    source: SourceName = None,
    data: Data = None,
    mapping: Mapping = None,
    task: TaskFile = None,
    replace: Replace = False,
    home_path: HomePath = DEFAULT_HOME,
    to: Json = None,
) -> None:
    """Run all jobs in turn: ingest, features, train, evaluate, materialize, predict and drift. Start here."""
    with job(home_path, to) as home:
        from dataclasses import asdict

        from vigil.pipelines.cli.tables import run_table, where_to_look
        from vigil.pipelines.jobs.run import run as run_jobs
        from vigil.pipelines.sources import open_source

        result = run_jobs(open_source(source, data, mapping, task), home, replace=replace)
        OUT.print(run_table(result, home_path))
        OUT.print(where_to_look(home_path), soft_wrap=True, highlight=False)
        write(to, {**asdict(result), "drift": result.drift.as_dict()})
        if result.problem is not None:
            raise VigilError(result.problem)


@app.command()
def ingest(
    source: SourceName = None,
    data: Data = None,
    mapping: Mapping = None,
    task: TaskFile = None,
    replace: Replace = False,
    home_path: HomePath = DEFAULT_HOME,
    to: Json = None,
) -> None:
    """Check and store a source's readings; quarantine those that cannot be used. Exits 1 if none can be used."""
    with job(home_path, to) as home:
        from dataclasses import asdict

        from vigil.pipelines.cli.tables import ingest_table
        from vigil.pipelines.jobs.ingest import ingest as ingest_source
        from vigil.pipelines.sources import open_source

        facts = ingest_source(open_source(source, data, mapping, task), home, replace=replace)
        OUT.print(ingest_table(facts))
        write(to, asdict(facts))
    raise typer.Exit(0 if facts.observations else 1)


@app.command()
def features(
    verify: Verify = False,
    catalogue: Catalogue = None,
    cases: Cases = None,
    home_path: HomePath = DEFAULT_HOME,
    to: Json = None,
) -> None:
    """Compute the features of new and changed data at every index time, and register them in Feast."""
    with job(home_path, to) as home:
        if catalogue:
            from vigil.features.catalogue_page import catalogue_page

            write_page("--catalogue", catalogue, catalogue_page())
            OUT.print(f"{catalogue}: every feature, explained")
        if cases:
            from vigil.features.cases.page import cases_page

            write_page("--cases", cases, cases_page())
            OUT.print(f"{cases}: what becomes of what arrives")
        if catalogue or cases:
            return
        from dataclasses import asdict

        from vigil.pipelines.jobs.build_features import build

        built = build(home)
        OUT.print(
            f"{built.index_times:,} index times in {home_path / 'features'}; "
            f"of {built.computed + built.reused} partitions {built.computed} computed, {built.reused} up to date"
        )
        result: dict[str, Any] = {"index_times": built.index_times, "computed": built.computed, "kept": built.reused}
        if verify:
            from vigil.pipelines.jobs.verify_features import verify_features

            verified = verify_features(home)
            OUT.print(
                f"{verified.compared:,} values of {verified.index_times:,} index times are equal, bit for bit, in training "
                f"(Feast's point-in-time join) and in serving; so are {verified.online_compared:,} values of "
                f"{verified.online_rows:,} rows after their way through Feast's online store"
            )
            result["verified"] = asdict(verified)
        write(to, result)


@app.command()
def materialize(home_path: HomePath = DEFAULT_HOME, to: Json = None) -> None:
    """Load the latest features of each patient into the online store."""
    with job(home_path, to) as home:
        from vigil.pipelines.jobs.build_features import materialize as materialize_features

        patients = materialize_features(home)
        OUT.print(f"{patients:,} patients in {home_path / 'feast'}")
        write(to, {"patients": patients})


@app.command()
def predict(home_path: HomePath = DEFAULT_HOME, to: Json = None) -> None:
    """Predict for every held-out patient as the server does, and log the predictions."""
    with job(home_path, to) as home:
        from vigil.pipelines.jobs.predict import predict_held_out
        from vigil.serving.composition import open_risk_service
        from vigil.serving.settings import Settings

        reports = predict_held_out(home, open_risk_service(Settings(home=home.path, task=home.cohort.task.name)))
        OUT.print(f"{len(reports):,} predictions in {home_path / 'predictions.db'}")
        write(to, {"predictions": len(reports)})


@app.command()
def benchmark(
    protocol: Protocol,
    train_set: TrainSet = None,
    test_set: TestSet = None,
    only: Only = None,
    to: Json = None,
    rows: Predictions = None,
) -> None:
    """Run an open challenge by its frozen protocol: choices on the training set, one score on the test set."""
    with reported_errors(to, rows):
        from vigil.pipelines.challenges.run import run as run_protocol
        from vigil.pipelines.cli.benchmark_tables import benchmark_table

        result = run_protocol(protocol, train_set or [], test_set or [], only)
        OUT.print(benchmark_table(result))
        write(to, {**result.facts, "models": result.metrics})
        if rows is not None:
            result.predictions.to_parquet(rows, index=False)


@app.command()
def wards(days: LookBack = 7, home_path: HomePath = DEFAULT_HOME, to: Json = None) -> None:
    """Propose for each ward the alarm threshold that meets its budget, from its own risks of the last days."""
    with job(home_path, to) as home:
        from dataclasses import asdict

        from vigil.pipelines.cli.tables import wards_table
        from vigil.pipelines.jobs.ward_thresholds import propose_thresholds

        proposals = propose_thresholds(home.path, home.cohort.task, days)
        OUT.print(wards_table(proposals, home_path))
        write(to, {"wards": [asdict(proposal) for proposal in proposals]})


_OTHERS: tuple[Callable[..., None], ...] = (
    *(train, tune, models, evaluate, score, promote, withdraw, reinstate),
    *(serve, token, reproduce, clock, sources, retention, backup, restore, upgrade),
)
for command in _OTHERS:
    app.command()(command)
app.command("replay", hidden=True)(reproduce)  # the former name
app.add_typer(cohort_app, name="cohort")
app.add_typer(drift_app, name="drift")
app.command("simulate-fault")(simulate_fault)
