"""How homes, models and evaluations look in a notebook: small tables in HTML."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

if TYPE_CHECKING:
    from vigil.pipelines.home import Home

# Columns of an evaluation that a reader needs first, each with its name; the frame holds all of them.
_SHOWN: Final = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "calibration_slope": "calibration slope",
    "brier": "Brier score",
    "event_recall": "onsets with an alarm",
    "alarm_precision": "right alarms",
    "alarms_per_patient_day": "alarms per patient-day",
    "lead_time_hours": "lead time, h",
}
_SIMULATED: Final = "<b>Simulated patients: no clinical evidence.</b>"


class EvaluationTable(pd.DataFrame):
    """An evaluation: a row a model, all figures as columns. A notebook shows those that a reader needs first."""

    def _repr_html_(self) -> str:
        if not {"prevalence", "patients"} <= set(self.columns) or self.empty:
            return str(pd.DataFrame(self)._repr_html_())  # type: ignore[operator]
        first = self.iloc[0]
        shown = {name: title for name, title in _SHOWN.items() if name in self and bool(self[name].notna().any())}
        rows = [(str(model), *(_with_interval(figures, name) for name in shown)) for model, figures in self.iterrows()]
        head = (
            f"{first['patients']:,.0f} held-out patients, {first['events']:,.0f} with the event; prevalence "
            f"{_with_interval(first, 'prevalence')}. In brackets: 95 % interval."
        )
        return f"<p>{head}</p>{html_table(('model', *shown.values()), rows)}"


def html_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in HTML; every text is escaped."""
    head = "".join(f"<th>{escape(one)}</th>" for one in headings)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def show_home(home: "Home") -> str:
    """Return what a home holds: its cohort, and the versions of its model."""
    from vigil.models.registry import NoModelError
    from vigil.models.version_history import list_versions
    from vigil.pipelines.cohort_store import NoCohortError

    parts = [f"<p><b>vigil.Home</b> {escape(str(home.path))}</p>"]
    try:
        facts = home.cohort.facts
        counts = f"{facts.subjects:,} stays, {facts.events:,} with the outcome, {facts.observations:,} observations"
        parts.append(f"<p>Cohort {escape(facts.source)}: {counts}. {_SIMULATED if facts.simulated else ''}</p>")
    except NoCohortError:
        parts.append("<p>No cohort yet: <code>home.ingest(cohort)</code>.</p>")
    try:
        versions = list_versions(home.existing_registry(), home.served_task)
    except NoModelError:
        return "".join([*parts, "<p>No model yet: <code>home.train()</code>.</p>"])
    rows = [(str(own["version"]), _state(own), own["trained_at"][:10], _auroc(own["metrics"])) for own in versions]
    return "".join([*parts, html_table((f"version of {home.served_task}", "state", "trained", "held-out AUROC"), rows)])


def show_model(home: "Home", task: str, version: str | None) -> str:
    """Return which question a model answers, and since when."""
    from vigil.models.own_tasks import find_task
    from vigil.models.registry import NoModelError
    from vigil.models.version_history import describe_training

    try:
        registered = home.existing_registry().load(task, version)
    except NoModelError:
        return f"<p><b>vigil.Model</b> {escape(task)}: no such version; the answers are NEWS2.</p>"
    training, metadata = describe_training(home.registry, registered), registered.model.metadata_
    outcome = find_task(task, home.path).outcome
    thresholds = ", ".join(f"{band} from {value:.3f}" for band, value in training["thresholds"].items())
    rows = [
        ("outcome", outcome),
        ("trained", f"{training['trained_at'][:10]} on {training['train_patients']} patients"),
        ("features", f"{len(training['features'])} of {registered.feature_service}"),
        ("learner", f"{training['learner']}, {training['members']} members"),
        ("bands", thresholds),
    ]
    title = f"<p><b>vigil.Model</b> {escape(task)}, version {escape(str(registered.version))}. "
    return f"{title}{_SIMULATED if metadata.get('simulated') else ''}</p>{html_table(('', ''), rows)}"


def _state(version: Mapping[str, Any]) -> str:
    if version["withdrawn"]:
        return f"withdrawn: {version['withdrawn']}"
    return str(version["alias"]) + (f", refused by {version['refused_by']}" if version["refused_by"] else "")


def _auroc(metrics: Mapping[str, float]) -> str:
    return _with_interval(metrics, "auroc") if "auroc" in metrics else "not evaluated"


def _with_interval(figures: "Mapping[str, Any] | pd.Series[Any]", name: str) -> str:
    """Return a figure with its interval, such as ``0.874 (0.830 to 0.910)``."""
    value = figures[name]
    if pd.isna(value):
        return "-"
    decimals = 3 if abs(value) < 1 else 2
    low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
    interval = "" if low is None or pd.isna(low) else f" ({low:.{decimals}f} to {high:.{decimals}f})"
    return f"{value:.{decimals}f}{interval}"
