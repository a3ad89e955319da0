"""The history of a model's versions: how each was trained, and how it performed."""

import json
from datetime import UTC, datetime
from typing import Any, Final

from vigil.models.registry import VERSION_TAG, WITHDRAWN, RegisteredModel, Registry

EVALUATION: Final = "evaluation.json"  # with the run of a version that was evaluated


def describe_training(registry: Registry, registered: RegisteredModel) -> dict[str, Any]:
    """Describe how a version was trained, from its run and its artifact.

    Returns:
        Of the run ``trained_at`` (UTC, ISO 8601), ``versions`` of libraries, and ``train_patients, train_events`` (as text;
        None if the run does not hold them). Of the artifact ``learner`` (its class), ``parameters`` (the settings of
        :class:`vigil.models.training.risk_model.RiskModel`, as text), ``members`` (number of fitted learners), ``folds,
        repeats, max_negatives, seed``, ``ways`` of augmentation that members learned from, ``features`` (names, in order) and
        ``thresholds``.
    """
    run, model = registry.client.get_run(registered.run_id), registered.model
    tags, params = run.data.tags, run.data.params
    return {
        "trained_at": datetime.fromtimestamp(run.info.start_time / 1000, UTC).isoformat(timespec="seconds"),
        "versions": {tag.removeprefix(VERSION_TAG): tags[tag] for tag in tags if tag.startswith(VERSION_TAG)},
        **{count: params.get(count) for count in ("train_patients", "train_events")},
        "learner": type(model.learner).__name__,
        "parameters": {name: str(value) for name, value in model.settings.items()},
        "members": sum(len(view) for view in model.members_),
        **{setting: getattr(model, setting) for setting in ("folds", "repeats", "max_negatives", "seed")},
        "ways": [way for way in ("other_habits", "changed_habits", "cut_records") if model.metadata_.get(way)],
        "features": list(model.features),
        "thresholds": dict(model.thresholds_),
    }


def list_variants(registry: Registry, name: str) -> list[dict[str, Any]]:
    """List what was evaluated of every version: its variants and baselines, each by its version's last evaluation.

    Returns:
        Each has ``version, alias, variant, is_registered`` (whether the version is this variant), ``held_out`` (digest of the
        rows that it was judged on; None in evaluations of earlier versions of Vigil), ``patients``, and its ``metrics``. The
        order is by held-out rows, those of the newest version first, and among these the highest AUPRC first.

    Raises:
        NoModelError: there is no such model.
    """
    listed, judged_on = [], []
    for version in list_versions(registry, name):
        evaluation = registry.find_dictionary(version["run_id"], EVALUATION)
        if evaluation is None:
            continue
        held_out = evaluation["made"].get("held_out_digest")
        judged_on += [held_out] if held_out not in judged_on else []
        listed += [
            {
                "version": version["version"],
                "alias": version["alias"],
                "variant": variant,
                "is_registered": variant == evaluation["default"],
                "held_out": held_out,
                "patients": metrics["patients"],
                "metrics": metrics,
            }
            for variant, metrics in evaluation["models"].items()
        ]
    return sorted(listed, key=lambda one: (judged_on.index(one["held_out"]), -(one["metrics"]["auprc"] or 0.0)))


def list_versions(registry: Registry, name: str) -> list[dict[str, Any]]:
    """List the versions of a model, newest first.

    Returns:
        Each has ``version, alias, trained_at, run`` (its name), ``run_id``; ``withdrawn, refused_by, ungated`` with the reason
        (None if it was not); and ``metrics`` of the registered model on held-out patients, empty without an evaluation.

    Raises:
        NoModelError: there is no such model.
    """
    registry.latest_version(name)
    aliases = {str(version): alias for alias, version in registry.client.get_registered_model(name).aliases.items()}
    listed = []
    for version in registry.client.search_model_versions(f"name = '{name}'"):
        run = registry.client.get_run(version.run_id)
        tags, variant = version.tags, f"{registry.client.get_logged_model(version.source.rpartition('/')[2]).name}."
        withdrawn = json.loads(tags[WITHDRAWN])["because"] if WITHDRAWN in tags else None
        listed.append(
            {
                "version": int(version.version),
                "alias": aliases.get(str(version.version), ""),
                "trained_at": datetime.fromtimestamp(run.info.start_time / 1000, UTC).isoformat(timespec="seconds"),
                "run": run.info.run_name,
                "run_id": run.info.run_id,
                "withdrawn": withdrawn,
                "refused_by": tags.get("refused_by"),
                "ungated": tags.get("ungated"),
                "metrics": {
                    name.removeprefix(variant): value for name, value in run.data.metrics.items() if name.startswith(variant)
                },
            }
        )
    return sorted(listed, key=lambda version: -version["version"])


def list_promotions(registry: Registry, name: str) -> list[tuple[str, str, str, str]]:
    """List what was decided about the versions of a model: when (ISO 8601), what, of which version, and what speaks for it.

    What is ``registered``, ``promoted``, ``refused`` or ``rolled_back``; the gates that refused a version are named.

    Raises:
        NoModelError: there is no such model.
    """
    registry.latest_version(name)
    decided = []
    for version in registry.client.search_model_versions(f"name = '{name}'"):
        registered = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).isoformat(timespec="seconds")
        decided.append((registered, "registered", str(version.version), ""))
        for kind in ("promoted", "refused", "rolled_back"):
            if (at := version.tags.get(f"{kind}_at")) is not None:
                text = version.tags.get("refused_by", "") if kind == "refused" else ""
                decided.append((at, kind, str(version.version), text))
    return sorted(decided, reverse=True)
