"""One picture of how good the models are: ranking, calibration and alarms, the baselines beside."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from models.evaluation.calibration import reliability
from models.evaluation.report_style import in_order, line, named

_SETTLED: Final = 0.02  # recall below which precision rests on a handful of hours and jumps


def overview(scored: Mapping[str, pd.DataFrame], metrics: Mapping[str, Mapping[str, float]], title: str) -> Figure:
    """Four panels: ROC, precision-recall, reliability, and AUROC with its 95 % interval.

    Args:
        scored: model -> frame with ``subject_id``, ``label`` (missing: left out) and ``probability``.
        metrics: model -> the output of :func:`models.evaluation.evaluate`.
        title: what the patients are.
    """
    figure = Figure(figsize=(11, 9), layout="constrained")
    roc, pr, calibrated, bars = figure.subplots(2, 2).ravel()
    by = "patient-hour" if next(iter(scored.values()))["subject_id"].duplicated().any() else "stay"
    styles = {name: line(name, next(iter(scored))) for name in in_order(scored)}
    for name, style in styles.items():
        frame = scored[name]
        known = frame[frame["label"].notna()]
        label, probability = known["label"].to_numpy(float), known["probability"].to_numpy(float)
        false_alarms, sensitivity, _ = roc_curve(label, probability)
        roc.plot(false_alarms, sensitivity, **style)
        precision, recall, _ = precision_recall_curve(label, probability)
        settled = recall > _SETTLED
        pr.plot(recall[settled], precision[settled], **style)
        groups = reliability(label, probability)
        calibrated.plot(groups["predicted"], groups["observed"], marker="o", markersize=4, **style)
    _finish(roc, "1 - specificity", "sensitivity", f"ROC, by {by}")
    roc.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    _finish(pr, "sensitivity (recall)", "positive predictive value (precision)", f"Precision-recall, by {by}")
    prevalence = next(iter(metrics.values()))["prevalence"]
    pr.axhline(prevalence, color="grey", linewidth=0.8, linestyle=":")
    pr.annotate(f"prevalence {prevalence:.3f}", (0.02, prevalence), va="top", fontsize=8, color="grey")
    pr.set(xlim=(0, 1), ylim=(0, None))
    _finish(calibrated, "predicted risk", "observed frequency", "Reliability, ten equal groups, logarithmic")
    calibrated.set(xscale="log", yscale="log")
    calibrated.axline((0.01, 0.01), (0.1, 0.1), color="grey", linewidth=0.8, linestyle=":")
    _auroc_bars(bars, metrics, {name: style["color"] for name, style in styles.items()})
    figure.suptitle(title)
    return figure


def _auroc_bars(axes: Axes, metrics: Mapping[str, Mapping[str, float]], colours: Mapping[str, Any]) -> None:
    names = list(colours)[::-1]
    value = np.array([metrics[name]["auroc"] for name in names])
    low, high = (np.array([metrics[name][f"auroc_{side}"] for name in names]) for side in ("low", "high"))
    shown, error = [named(name) for name in names], [value - low, high - value]
    axes.barh(shown, value - 0.5, left=0.5, xerr=error, color=[colours[name] for name in names], capsize=3)
    for name, v, upper in zip(shown, value, high, strict=True):
        axes.annotate(f" {v:.3f}", (upper, name), va="center", fontsize=9)
    axes.set(xlabel="AUROC with 95 % interval (bootstrap over patients)", xlim=(0.5, 1.0), title="AUROC")


def _finish(axes: Axes, x: str, y: str, title: str) -> None:
    axes.set(xlabel=x, ylabel=y, title=title)
    axes.legend(fontsize=8)
