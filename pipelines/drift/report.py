"""Reports of an assessed day: a page for people, JSON for programs, a series of runs, and Evidently's workspace."""

import json
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from vigil.models.monitoring.assessment import PREDICTION, ObservedDay
from vigil.models.monitoring.feature_drift import FALSE_DISCOVERY_RATE
from vigil.models.monitoring.report_schema import REPORT_FILE, DriftReport
from vigil.models.registry import RegisteredModel
from vigil.models.reporting.style import label_axes, render_svg, report_style
from vigil.pipelines.drift import evidently_report
from vigil.pipelines.drift.job import DriftRun
from vigil.pipelines.home import Home
from vigil.pipelines.results import replace_json

PAGE: Final = "drift.html"  # under HOME/reports
SERIES: Final = "drift"  # under HOME/reports: one JSON file for each run
SHOWN: Final = 12  # columns that Evidently draws
_HISTORY: Final = 60  # runs that the page shows
_TEMPLATE: Final = "drift.html"
_STATUS_COLOURS: Final = {"fine": "#009E73", "drift": "#E69F00", "broken": "#D55E00"}


def write_report(home: Home, result: DriftRun, recent: ObservedDay, reference: pd.DataFrame, champion: RegisteredModel) -> None:
    """Write ``drift.html`` and ``drift.json``, and add to the series in ``drift/`` and to Evidently's workspace.

    The report of a replay goes into ``HOME/reports/drill``, since it is no part of the home's history.

    Args:
        home: receives the reports.
        result: the outcome of the job.
        recent: the day.
        reference: the days it was compared with.
        champion: the model; its features choose the columns that Evidently draws.
    """
    reports = home.reports / ("drill" if result.replay else "")
    series = reports / SERIES
    series.mkdir(parents=True, exist_ok=True)
    columns = _choose_columns(result, champion)
    snapshots = []
    if len(result.assessment.columns):
        log = recent.log[(recent.log["model_version"] == champion.version).to_numpy()]
        before, now = average_by_patient(reference, columns), average_by_patient(log, columns)
        snapshots.append(evidently_report.compare(before, now, _p_bound(result)))
    if result.assessment.known is not None:
        snapshots.append(evidently_report.ranks(recent.judged))
    stamp = result.judged_at.replace(":", "")
    file = series / f"{stamp}.json"
    replace_json(file, result.as_dict())
    content = json.loads(file.read_text())  # the page shows what the file holds
    if snapshots:
        evidently_report.keep(reports, result.model["name"], snapshots, f"{stamp} {content['status']}")
    evidently_page = evidently_report.render_page(snapshots) if snapshots else "<html><body></body></html>"
    (reports / PAGE).write_text(_render_page(content, _read_history(series), evidently_page), encoding="utf-8")
    replace_json(reports / REPORT_FILE, content)  # last, since the server reads it


def _render_page(content: dict[str, Any], history: list[DriftReport], evidently_page: str) -> str:
    """Put Vigil's report above what Evidently draws."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(resources.files("vigil.pipelines.drift").joinpath(_TEMPLATE).read_text(encoding="utf-8"))
    with report_style():
        drawn = Markup(render_svg(_draw_history(history))) if len(history) > 1 else ""  # noqa: S704 - letters are outlines, not text
    ours = template.render(result=content, colour=_STATUS_COLOURS[content["status"]], history=drawn, shown=SHOWN)
    start = evidently_page.index(">", evidently_page.index("<body")) + 1
    return evidently_page[:start] + ours + evidently_page[start:]


def _choose_columns(result: DriftRun, champion: RegisteredModel) -> list[str]:
    """Choose the risk, then columns that drifted, then recent vital signs, age and NEWS2, then other features."""
    columns = result.assessment.columns
    drifted = columns.loc[columns["drifted"], "column"].tolist()
    vitals = [name for name in champion.model.features if name.endswith(("_mean_1h", "_last_24h")) or name in ("age", "news2")]
    return list(dict.fromkeys([PREDICTION, *drifted, *vitals, *champion.model.features]))[:SHOWN]


def average_by_patient(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Average each patient's day, as the tests of columns do: one row a patient and day."""
    keys = [name for name in ("subject_id", "day") if name in frame]
    return frame.groupby(keys, observed=True)[columns].mean().reset_index(drop=True).astype(np.float64)


def _p_bound(result: DriftRun) -> float:
    """Return the p-value below which a column counts as drifted, with all columns taken into account."""
    columns = result.assessment.columns
    drifted = columns.loc[columns["q"] < FALSE_DISCOVERY_RATE, "p"]
    return float(drifted.max()) if len(drifted) else FALSE_DISCOVERY_RATE / max(1, len(columns))


def _read_history(series: Path) -> list[DriftReport]:
    """Read the last runs, oldest first; an unfinished file is left out."""
    history = []
    for path in sorted(series.glob("*.json"))[-_HISTORY:]:
        try:
            history.append(DriftReport.model_validate_json(path.read_bytes()))
        except ValueError:
            continue
    return history


def _draw_history(history: list[DriftReport]) -> Figure:
    """Draw faults, the share of drifted features, and expected and measured AUROC, run by run."""
    figure = Figure(figsize=(9, 2.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    at = [pd.Timestamp(run.judged_at).tz_convert(None) for run in history]
    shares = [100 * run.columns.share if run.columns else np.nan for run in history]
    left.plot(at, shares, color="#0072B2", label="features that drifted, %")
    left.scatter(
        at, [len(run.findings) for run in history], s=18, color=[_STATUS_COLOURS[run.status] for run in history],
        label="faults detected", zorder=3,
    )  # fmt: skip
    left.set_ylim(bottom=0)
    label_axes(left, "judged at (UTC)", "", "Drift")
    left.legend(loc="upper left")
    performance = [run.performance for run in history]
    expected = [one.estimated.auroc if one and one.estimated else None for one in performance]
    measured = [one.known.auroc if one and one.known else None for one in performance]
    for values, colour, label in ((expected, "#56B4E9", "expected, without labels"), (measured, "#0072B2", "measured")):
        if any(value is not None for value in values):
            right.plot(at, [np.nan if value is None else value for value in values], marker=".", color=colour, label=label)
    label_axes(right, "judged at (UTC)", "AUROC", "Performance")
    if right.get_legend_handles_labels()[0]:
        right.legend(loc="lower left")
    for axes in (left, right):
        axes.tick_params(axis="x", labelrotation=30)
    return figure
