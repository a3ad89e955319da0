"""Reports of a judged day: one page for people, JSON for programs, a series of both kinds, and Evidently's workspace."""

import json
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from models.monitoring.feature_drift import FALSE_DISCOVERY_RATE
from models.registry import RegisteredModel
from models.reporting.style import labelled, styled, svg
from pipelines.drift import evidently_report
from pipelines.drift.assessment import PREDICTION, RESULT, Drift
from pipelines.drift.inputs import Recent
from pipelines.results import replace_json

PAGE: Final = "drift.html"  # under HOME/reports, as the next two
SERIES: Final = "drift"
SHOWN: Final = 12  # columns that Evidently draws: those that drifted first, then by what the model makes of them
_HISTORY: Final = 60  # runs in the page
_TEMPLATE: Final = "drift.html"
_STATUS_COLOURS: Final = {"fine": "#009E73", "drift": "#E69F00", "broken": "#D55E00"}


def write_report(home: Path, result: Drift, recent: Recent, reference: pd.DataFrame, champion: RegisteredModel) -> None:
    """Write ``drift.html`` and ``drift.json``, add to the series in ``drift/`` and to Evidently's workspace.

    A replay goes into ``HOME/reports/rehearsal``, since it is no part of the home's history.

    Args:
        home: whose ``reports`` they go to.
        result: what was judged.
        recent: the day.
        reference: what it was compared with.
        champion: the model, for the names of the columns that matter to it.
    """
    reports = home / "reports" / ("rehearsal" if result.replay else "")
    series = reports / SERIES
    series.mkdir(parents=True, exist_ok=True)
    columns = _chosen(result, champion)
    snapshots = []
    if len(result.judgement.columns):
        log = recent.log[(recent.log["model_version"] == champion.version).to_numpy()]
        before, now = by_patient(reference, columns), by_patient(log, columns)
        snapshots.append(evidently_report.compare(before, now, _bound(result)))
    if result.judgement.known is not None:
        snapshots.append(evidently_report.ranks(recent.judged))
    stamp = result.judged_at.replace(":", "")
    kept = series / f"{stamp}.json"
    replace_json(kept, result.as_dict())
    plain = json.loads(kept.read_text())  # the page shows what the file holds
    if snapshots:
        evidently_report.keep(reports, result.model["name"], snapshots, f"{stamp} {plain['status']}")
    below = evidently_report.page(snapshots) if snapshots else "<html><body></body></html>"
    (reports / PAGE).write_text(_page(plain, _history(series), below), encoding="utf-8")
    replace_json(reports / RESULT, plain)  # last: the server reads it


def _page(plain: dict[str, Any], history: list[dict[str, Any]], evidently: str) -> str:
    """Vigil's findings above what Evidently draws."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(resources.files("pipelines.drift").joinpath(_TEMPLATE).read_text(encoding="utf-8"))
    with styled():
        drawn = Markup(svg(_over_time(history))) if len(history) > 1 else ""  # noqa: S704 - letters are outlines, not text
    ours = template.render(result=plain, colour=_STATUS_COLOURS[plain["status"]], history=drawn, shown=SHOWN)
    start = evidently.index(">", evidently.index("<body")) + 1
    return evidently[:start] + ours + evidently[start:]


def _chosen(result: Drift, champion: RegisteredModel) -> list[str]:
    """The risk, columns that drifted, and then those of vital signs as they are now."""
    drifted = result.judgement.columns
    first = drifted.loc[drifted["drifted"], "column"].tolist()
    plain = [name for name in champion.model.features if name.endswith(("_mean_1h", "_last_24h")) or name in ("age", "news2")]
    return list(dict.fromkeys([PREDICTION, *first, *plain, *champion.model.features]))[:SHOWN]


def by_patient(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Means, one row a patient and day, as the tests of columns have them."""
    keys = [name for name in ("subject_id", "day") if name in frame]
    return frame.groupby(keys, observed=True)[columns].mean().reset_index(drop=True).astype(np.float64)


def _bound(result: Drift) -> float:
    """The p-value under which a column counts as drifted, all columns considered."""
    columns = result.judgement.columns
    called = columns.loc[columns["q"] < FALSE_DISCOVERY_RATE, "p"]
    return float(called.max()) if len(called) else FALSE_DISCOVERY_RATE / max(1, len(columns))


def _history(series: Path) -> list[dict[str, Any]]:
    """The last runs, oldest first; one that was cut off is left out."""
    found = []
    for path in sorted(series.glob("*.json"))[-_HISTORY:]:
        try:
            found.append(json.loads(path.read_text()))
        except ValueError:
            continue
    return found


def _over_time(history: list[dict[str, Any]]) -> Figure:
    """Faults, columns that drifted, and AUROC as expected and as measured, run by run."""
    figure = Figure(figsize=(9, 2.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    at = [pd.Timestamp(run["judged_at"]).tz_convert(None) for run in history]
    left.plot(at, [100 * run["columns"]["share"] for run in history], color="#0072B2", label="features that drifted, %")
    left.scatter(
        at, [len(run["findings"]) for run in history], s=18, color=[_STATUS_COLOURS[run["status"]] for run in history],
        label="faults named", zorder=3,
    )  # fmt: skip
    left.set_ylim(bottom=0)
    labelled(left, "judged at (UTC)", "", "Drift")
    left.legend(loc="upper left")
    for name, colour, said in (("estimated", "#56B4E9", "expected, without labels"), ("known", "#0072B2", "measured")):
        values = [(run["performance"][name] or {}).get("auroc") for run in history]
        if any(value is not None for value in values):
            right.plot(at, [np.nan if value is None else value for value in values], marker=".", color=colour, label=said)
    labelled(right, "judged at (UTC)", "AUROC", "Performance")
    if right.get_legend_handles_labels()[0]:
        right.legend(loc="lower left")
    for axes in (left, right):
        axes.tick_params(axis="x", labelrotation=30)
    return figure
