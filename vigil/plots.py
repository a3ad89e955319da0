"""Pictures of a model: what moves its risks, and how it treats groups of patients.

::

    import vigil

    home = vigil.Home("home")
    model = home.champion()
    vigil.plots.beeswarm(model)                                # signals, over a sample of the held-out hours
    vigil.plots.waterfall(model, readings, "p17")              # one patient
    vigil.plots.fairness(home.fairness(by=["sex", "ward"]))

Each function returns a matplotlib figure. Contributions are those of TreeSHAP, in log-odds: they say what the model uses, not
what causes the outcome.
"""

from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pandas as pd

from vigil.features.errors import VigilError
from vigil.frames import to_pandas
from vigil.interface import Model

if TYPE_CHECKING:  # its import takes a while
    from matplotlib.figure import Figure

__all__ = ["beeswarm", "calibration", "dependence", "fairness", "waterfall"]

By = Literal["signal", "feature"]

_FEWEST: Final = 2  # rows of a beeswarm


def beeswarm(model: Model, readings: Any = None, *, by: By = "signal", number: int = 10) -> "Figure":
    """Draw a dot for each risk and signal: how far the signal moved the risk, in the colour of its latest value.

    Args:
        model: of trees.
        readings: as :meth:`vigil.Model.predict` takes them, one risk a patient. Default: a sample of the held-out hours.
        by: ``signal`` or ``feature``.
        number: of signals or features, the strongest first.

    Raises:
        VigilError: the model has no contributions, or no reading can be used.
    """
    from vigil.features.display_names import label_feature, label_signal
    from vigil.models.evaluation.explanations import latest_values
    from vigil.models.reporting.shap_figures import draw_swarm

    fitted, rows = _rows_of(model, readings)
    if len(rows) < _FEWEST:
        raise VigilError(f"readings: of {len(rows)} patient; expected at least {_FEWEST}; draw one patient by waterfall")
    contributions = fitted.contributions(rows, by).drop(columns="baseline")
    names = [str(name) for name in contributions.abs().mean().sort_values(ascending=False, kind="stable").index[:number]]
    known = (latest_values(rows, name) for name in names)
    values = np.column_stack([np.full(len(rows), np.nan) if one is None else one for one in known])
    label = label_signal if by == "signal" else label_feature
    return draw_swarm([label(name) for name in names], contributions[names].to_numpy(), values)


def waterfall(model: Model, readings: Any, patient: str | None = None, *, by: By = "signal") -> "Figure":
    """Draw how the risk of one patient, as of their last reading, comes about from that of the average patient.

    Args:
        model: of trees.
        readings: as :meth:`vigil.Model.predict` takes them.
        patient: which ``subject_id``; not needed if the readings are of one.
        by: ``signal`` or ``feature``.

    Raises:
        VigilError: the readings are of several patients and none is named, or have none of that name.
    """
    from vigil.models.evaluation.explanations import explain_row
    from vigil.models.reporting.shap_figures import draw_waterfall

    fitted, rows = _rows_of(model, readings)
    if patient is not None:
        rows = rows[rows["subject_id"] == patient]
    if len(rows) != 1:
        raise VigilError(f"patient: the readings are of {len(rows)}; expected one; name a subject_id that has readings")
    explained = explain_row(fitted, rows, by)
    assert explained is not None  # the model has contributions
    return draw_waterfall(explained, by=by)


def dependence(model: Model, readings: Any = None) -> "Figure":
    """Draw how far each of the strongest signals moves the risk by its latest value, over the density of these values.

    A curve is the mean contribution of rows of similar value, so that no patient is asked about who cannot exist, as partial
    dependence would: it changes one feature and leaves those that move with it.

    Args:
        model, readings: as :func:`beeswarm` takes them.

    Raises:
        VigilError: as :func:`beeswarm`, or fewer than 20 rows have a value.
    """
    from vigil.models.evaluation.explanations import explain_signals
    from vigil.models.reporting.explanation_figures import draw_explanations
    from vigil.models.reporting.style import report_style
    from vigil.models.seeds import SEED

    signals = explain_signals(*_rows_of(model, readings), SEED)
    if not any(signal["groups"] for signal in signals):
        raise VigilError("readings: too few patients with a value; expected 20 or more; leave readings out for held-out hours")
    with report_style():
        return draw_explanations({"explanations": signals})


def fairness(groups: pd.DataFrame) -> "Figure":
    """Draw the shares of each group with 95 % limits; groups too small to judge are hollow and grey.

    Args:
        groups: as :meth:`vigil.Home.fairness` returns them.
    """
    from vigil.models.reporting.fairness_figures import draw_fairness
    from vigil.models.reporting.style import report_style

    with report_style():
        return draw_fairness(_records(groups))


def calibration(points: pd.DataFrame) -> "Figure":
    """Draw observed frequencies by predicted risk, one panel a group.

    Args:
        points: as :meth:`vigil.Home.group_calibration` returns them.

    Raises:
        VigilError: there are none.
    """
    if points.empty:
        raise VigilError("points: no group is large enough to judge; expected 20 patients with an event and 20 without in one")
    from vigil.models.reporting.fairness_figures import draw_group_calibration
    from vigil.models.reporting.style import report_style

    with report_style():
        return draw_group_calibration(_records(points))


def _rows_of(model: Model, readings: Any) -> tuple[Any, pd.DataFrame]:
    from vigil.pipelines.jobs.explain import rows_to_explain

    frame = None if readings is None else to_pandas(readings)
    return rows_to_explain(model.home.inner, model.task, model.version, frame)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]
