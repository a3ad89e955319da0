"""The commands about models: fit, list, judge, promote, ask. Thin, as all of :mod:`pipelines.cli.main`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from features.errors import VigilError
from pipelines.cli.options import DEFAULT_HOME, OUT, Home, Json, job, write

Version = Annotated[str | None, typer.Option("--version", help="Model version; default: the champion.")]
ChallengerVersion = Annotated[str | None, typer.Option("--version", help="Model version; default: the challenger.")]
Rollback = Annotated[bool, typer.Option("--rollback", help="Instead return to the champion before this one, past no gate.")]
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


def _setting(text: str) -> tuple[str, Any]:
    """``num_leaves=8`` as a name and a value."""
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise VigilError(f"--set {text}: expected NAME=VALUE, such as num_leaves=8")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


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

        from pipelines.jobs.train import train as train_models

        chosen = dict(_setting(text) for text in settings or ())
        trained = asdict(train_models(home, seed, name=name, service=service, only=only, settings=chosen))
        write(to, trained)
        refused = trained.pop("refused")
        OUT.print(trained)
        if refused:
            OUT.print(refused, soft_wrap=True, highlight=False)


def models(name: ModelName = None, home: Home = DEFAULT_HOME, to: Json = None) -> None:
    """List the versions of the model: which is champion, when each was trained, and what it reached on held-out patients."""
    with job(home, to):
        from models.registry import Registry
        from models.version_history import versions
        from pipelines.cli.tables import versions_table
        from pipelines.cohort_store import CohortStore

        found = versions(Registry.existing(home), name or CohortStore(home).task.name)
        OUT.print(versions_table(found))
        write(to, {"versions": found})


def evaluate(version: Version = None, name: ModelName = None, home: Home = DEFAULT_HOME, to: Json = None) -> None:
    """Judge a model version beside its baselines on the held-out patients."""
    with job(home, to):
        from pipelines.cli.tables import metrics_table
        from pipelines.jobs.evaluate import evaluate as evaluate_models

        metrics = evaluate_models(home, version, name)
        OUT.print(metrics_table(metrics, "Held-out patients"))
        write(to, {"models": metrics})


def promote(version: ChallengerVersion = None, rollback: Rollback = False, home: Home = DEFAULT_HOME, to: Json = None) -> None:
    """Make the challenger champion, if it passes every written gate on the held-out patients."""
    with job(home, to):
        if rollback and version:
            raise VigilError(
                f"--version {version}: --rollback returns to the champion before this one; leave one of the two out"
            )
        from pipelines.jobs.promote import PromotionRefusedError, roll_back
        from pipelines.jobs.promote import promote as promote_model

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


def score(file: Readings, out: ScoresTo = None, home: Home = DEFAULT_HOME) -> None:
    """Score the readings of a file by the champion, a risk a patient; nothing is kept. Exits 1 where readings are left out."""
    with job(home, out):
        from pipelines.cli.tables import scores_table
        from pipelines.cohort_store import served_task
        from pipelines.jobs.score_file import score_file

        task = served_task(home)
        risks, left_out = score_file(home, file, task)
        OUT.print(scores_table(risks, left_out))
        if out is not None:
            risks.to_csv(out, index=False) if out.suffix == ".csv" else risks.to_parquet(out, index=False)
    raise typer.Exit(1 if len(left_out) else 0)
