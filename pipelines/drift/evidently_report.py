"""Evidently's part of the report: columns that drifted, data quality, and ranking where outcomes are known.

No other module imports Evidently. It gets one row a patient and day, and the bound of Vigil's own tests
(:mod:`vigil.models.monitoring.feature_drift`), since its default tests count each hour of a patient as a patient.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pandas as pd
from evidently import BinaryClassification, DataDefinition, Dataset, Report
from evidently.legacy.calculations.stattests import StatTest, register_stattest
from evidently.legacy.core import ColumnType
from evidently.metrics import LogLoss, RocAuc, ValueDrift
from evidently.presets import DataSummaryPreset
from evidently.sdk.panels import PanelMetric, line_plot_panel
from evidently.ui.workspace import Workspace
from scipy.stats import mannwhitneyu

from vigil.models.monitoring.assessment import PREDICTION

FOLDER: Final = "evidently"  # under HOME/reports
KEPT: Final = 200  # snapshots in the workspace: about a week with a run every hour
# Evidently 0.7 has this test one-sided only, so a column that fell would never show.
_TWO_SIDED: Final = StatTest("rank_sum", "rank sum, two-sided p", [ColumnType.Numerical], default_threshold=0.001)


def _rank_sum(
    reference_data: "pd.Series[float]", current_data: "pd.Series[float]", feature_type: ColumnType, threshold: float
) -> tuple[float, bool]:
    del feature_type
    p_value = float(mannwhitneyu(reference_data, current_data).pvalue)
    return p_value, p_value <= threshold


register_stattest(_TWO_SIDED, _rank_sum)


def compare(reference: pd.DataFrame, current: pd.DataFrame, bound: float) -> Any:
    """Make a snapshot of drift and of data quality.

    Args:
        reference, current: one row a patient and day, the same columns.
        bound: p-value of a rank sum below which a column counts as drifted.
    """
    # Evidently cannot test a column that is empty on one side. Vigil's own test reports that it vanished, or appeared.
    both = [str(name) for name in current if current[name].notna().sum() > 1 and reference[name].notna().sum() > 1]
    definition = DataDefinition(numerical_columns=both)
    # Columns one by one: Evidently's preset would add a verdict on the whole data set, beside Vigil's.
    drift = [ValueDrift(column=name, method=_TWO_SIDED.name, threshold=bound) for name in both]
    with _quiet():
        return Report([*drift, DataSummaryPreset(columns=both)]).run(
            Dataset.from_pandas(current[both], definition), Dataset.from_pandas(reference[both], definition)
        )


def ranks(judged: pd.DataFrame) -> Any:
    """Make a snapshot of performance, from ``label`` and ``probability`` of predictions with a known outcome."""
    definition = DataDefinition(
        classification=[BinaryClassification(target="label", prediction_probas="probability")],
        numerical_columns=["probability"],
    )
    with _quiet():
        rows = judged[["label", "probability"]].astype({"label": int})
        return Report([RocAuc(), LogLoss()]).run(Dataset.from_pandas(rows, definition), None)


def render_page(snapshots: list[Any]) -> str:
    """Return the snapshots as one HTML page that loads no other file."""
    first, *more = snapshots
    with _quiet():
        return "\n".join([first.get_html_str(as_iframe=False), *(snapshot.get_html_str(as_iframe=True) for snapshot in more)])


def keep(reports: Path, project_name: str, snapshots: list[Any], name: str) -> None:
    """Add snapshots to the workspace of a home, which ``vigil drift ui`` shows, and remove the oldest."""
    workspace = Workspace.create(str(reports / FOLDER))
    projects = workspace.search_project(project_name)
    project = projects[0] if projects else workspace.create_project(project_name)
    if not projects:
        for title, metric, labels, label in (
            ("Drift of the risk: p of a rank sum", "ValueDrift", {"column": PREDICTION}, "p"),
            ("AUROC where the outcome is known", "RocAuc", {}, "AUROC"),
        ):
            project.dashboard.add_panel(
                line_plot_panel(title=title, values=[PanelMetric(metric=metric, metric_labels=labels, legend=label)])
            )
        project.save()
    for snapshot in snapshots:
        workspace.add_run(project.id, snapshot, name=name)
    runs = sorted(workspace.list_runs(project.id))  # ids begin with the time (UUID version 7)
    for old in runs[:-KEPT]:
        workspace.delete_run(project.id, old)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
