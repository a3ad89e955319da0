"""Commands about models: train, list, evaluate, promote and score."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from vigil.features.errors import VigilError
from vigil.pipelines.cli.options import DEFAULT_HOME, OUT, HomePath, Json, job, write

Version = Annotated[str | None, typer.Option("--version", help="Model version; default: the champion.")]
ChallengerVersion = Annotated[str | None, typer.Option("--version", help="Model version; default: the challenger.")]
Rollback = Annotated[bool, typer.Option("--rollback", help="Instead return to the previous champion; no gate is checked.")]
ModelName = Annotated[str | None, typer.Option("--name", help="Registered model; default: the task's, which is served.")]
ModelSeed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the model's members.")]
Service = Annotated[str | None, typer.Option("--service", help="Feature service to learn from; default: the task's.")]
OnlyVariant = Annotated[
    str | None, typer.Option("--only", help="Fit and register only this variant, such as logistic; default: all of them.")
]
VariantSettings = Annotated[
    list[str] | None, typer.Option("--set", help="A setting of the registered variant, such as num_leaves=8; repeatable.")
]
Proposed = Annotated[
    Path | None,
    typer.Option(
        "--params", help="Settings as JSON, such as what vigil tune found: HOME/reports/tuning.json. --set comes first."
    ),
]
Leaderboard = Annotated[
    bool, typer.Option("--leaderboard", help="Instead list the variants and baselines of all versions, the best first.")
]
Minutes = Annotated[float, typer.Option("--minutes", min=0.0, help="How long to search; it is kept to within a fold.")]
Rival = Annotated[bool, typer.Option("--rival", help="Also search with FLAML, for as many minutes on the same folds.")]
Anew = Annotated[bool, typer.Option("--anew", help="Begin a search, where an earlier one would be continued.")]
GroupedBy = Annotated[
    list[str] | None,
    typer.Option(
        "--by",
        help="Attribute to examine fairness by: sex, age_band, ward, site, or one that a mapping or --attributes brings; "
        "repeatable. Default: all that divide the patients.",
    ),
]
AttributesFile = Annotated[
    Path | None,
    typer.Option(
        "--attributes", help="CSV or Parquet with more attributes: subject_id (of stays, or of patients), and others."
    ),
]
Readings = Annotated[
    Path, typer.Argument(help="CSV or Parquet: subject_id, observed_at, signal, value; optionally unit, age, sex and others.")
]
ScoresTo = Annotated[Path | None, typer.Option("--to", help="Also write the risks to this file, .csv or .parquet.")]


def _setting(text: str) -> tuple[str, Any]:
    """Parse ``num_leaves=8`` into a name and a value.

    >>> _setting("num_leaves=8")
    ('num_leaves', 8)
    """
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
    settings: VariantSettings = None,
    params: Proposed = None,
    home_path: HomePath = DEFAULT_HOME,
    to: Json = None,
) -> None:
    """Fit, calibrate and register the model and its baselines.

    A first version that passes the gates of behaviour becomes champion, later versions become challenger.
    """
    with job(home_path, to) as home:
        from dataclasses import asdict

        from vigil.pipelines.jobs.proposal import Proposal
        from vigil.pipelines.jobs.train import train as train_models

        named = dict(_setting(text) for text in settings or ())
        proposal = Proposal.read(params) if params else None
        trained = asdict(train_models(home, seed, name=name, service=service, only=only, settings=named, proposal=proposal))
        write(to, trained)
        refused = trained.pop("refused")
        OUT.print(trained)
        if refused:
            OUT.print(refused, soft_wrap=True, highlight=False)


def tune(
    minutes: Minutes = 20.0,
    rival: Rival = False,
    service: Service = None,
    anew: Anew = False,
    seed: ModelSeed = 2026,
    home_path: HomePath = DEFAULT_HOME,
    to: Json = None,
) -> None:
    """Search settings of the default model on training patients, and compare the best with defaults and baselines.

    A search that was stopped or killed continues. What it finds becomes a version by: vigil train --params FILE.
    """
    with job(home_path, to) as home:
        from vigil.pipelines.cli.model_tables import tuning_table
        from vigil.pipelines.jobs.tune import tune as search_settings

        result = search_settings(home, minutes, rival=rival, service=service, anew=anew, seed=seed)
        OUT.print(tuning_table(result, home.reports))
        write(to, result.as_dict())


def models(
    name: ModelName = None, leaderboard: Leaderboard = False, home_path: HomePath = DEFAULT_HOME, to: Json = None
) -> None:
    """List the versions of the model: alias, time of training, and figures on held-out patients."""
    with job(home_path, to) as home:
        from vigil.models.version_history import list_variants, list_versions
        from vigil.pipelines.cli.model_tables import variants_table, versions_table

        registry, name = home.existing_registry(), name or home.cohort.task.name
        if leaderboard:
            variants = list_variants(registry, name)
            OUT.print(variants_table(variants))
            write(to, {"variants": variants})
            return
        listed = list_versions(registry, name)
        OUT.print(versions_table(listed))
        write(to, {"versions": listed})


def evaluate(
    version: Version = None,
    name: ModelName = None,
    by: GroupedBy = None,
    attributes: AttributesFile = None,
    home_path: HomePath = DEFAULT_HOME,
    to: Json = None,
) -> None:
    """Evaluate a model version and its baselines on the held-out patients, and its fairness to groups of them."""
    with job(home_path, to) as home:
        from vigil.pipelines.cli.tables import metrics_table
        from vigil.pipelines.jobs.evaluate import evaluate as evaluate_models
        from vigil.pipelines.jobs.fairness import read_attributes

        brought = None if attributes is None else read_attributes(attributes)
        metrics = evaluate_models(home, version, name, by=by or (), attributes=brought)
        OUT.print(metrics_table(metrics, "Held-out patients"))
        write(to, {"models": metrics})


def promote(
    version: ChallengerVersion = None, rollback: Rollback = False, home_path: HomePath = DEFAULT_HOME, to: Json = None
) -> None:
    """Make the challenger the champion if it passes every written gate on the held-out patients."""
    with job(home_path, to) as home:
        if rollback and version:
            raise VigilError(
                f"--version {version}: --rollback returns to the champion before this one; leave one of the two out"
            )
        from vigil.pipelines.jobs.promote import PromotionRefusedError, roll_back
        from vigil.pipelines.jobs.promote import promote as promote_model

        try:
            decision = roll_back(home) if rollback else promote_model(home, version)
        except PromotionRefusedError as refused:
            write(to, refused.decision)
            raise
        for gate in decision.get("gates", []):
            OUT.print(f"passed {gate['name']}: {gate['found']}", highlight=False)
        for gate in decision.get("left_out", []):
            OUT.print(f"left out {gate}: there was no champion to compare with", highlight=False)
        champion = decision["previous_champion" if rollback else "challenger"]
        replaced = f" in place of {decision['champion']['version']}" if decision["champion"] else ", the first"
        OUT.print(
            f"{decision['model']}: version {champion['version']} is champion{replaced}; a running server takes it over within "
            "seconds"
        )
        write(to, decision)


def score(file: Readings, out: ScoresTo = None, home_path: HomePath = DEFAULT_HOME) -> None:
    """Score the readings of a file with the champion: one risk for each patient. Exits 1 if readings were left out."""
    with job(home_path, out) as home:
        from vigil.pipelines.cli.tables import scores_table
        from vigil.pipelines.jobs.score_readings import score_file

        risks, left_out = score_file(home, file, home.served_task)
        OUT.print(scores_table(risks, left_out))
        if out is not None:
            risks.to_csv(out, index=False) if out.suffix == ".csv" else risks.to_parquet(out, index=False)
    raise typer.Exit(1 if len(left_out) else 0)
