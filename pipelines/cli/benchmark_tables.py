"""The table that a benchmark prints."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from rich.table import Table

from vigil.pipelines.challenges import Benchmark

_BENCHMARK_COLUMNS: Final = {
    "auroc": "AUROC",
    "auroc_0_to_2_h": "0-2 h",
    "auroc_2_to_6_h": "2-6 h",
    "auroc_6_to_12_h": "6-12 h",
    "auroc_12_to_48_h": "12-48 h",
    "auroc_48_to_end_h": "48 h on",
    "auroc_0_to_12_h": "0-12 h",
    "behind_best": "behind best",
    "standard_error": "standard error",
    "auprc": "AUPRC",
    "utility": "utility",
    "event1": "Event 1",
    "event2": "Event 2",
    "calibration_slope": "slope",
    "auroc_seen": "learned from",
    "domain_share_of_rows": "outside domain",
    "domain_auroc_inside": "AUROC inside",
    "domain_auroc_outside": "outside",
    "alarms_per_patient_day": "alarms/day",
    "event_recall": "recall",
    "alarm_precision": "precision",
    "lead_time_hours": "lead, h",
    "own_alarms_per_patient_day": "alarms/day, own threshold",
    "own_event_recall": "recall, own threshold",
    "testA_correct": "A, right",
    "testA_correct_when_told": "A, told how many",
    "testA_records": "of",
    "testB_correct": "B, right",
    "testB_correct_when_told": "B, told how many",
    "testB_records": "of",
    "testB_auroc": "B, AUROC",
}


_CGM_COLUMNS: Final = {
    "prevalence": "positive",
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "recall": "recall",
    "alarms_per_day": "alarms a day",
    "warning_minutes": "warning, min",
    "alarms_per_day_at_same_recall": "alarms a day at 80 %",
}


def benchmark_table(result: Benchmark) -> Table:
    """Show models in rows and the protocol's figures in columns, with 95 % intervals if there are any."""
    if result.facts["protocol"] == "cgm":
        return _cgm_table(result)
    known = {name for values in result.metrics.values() for name, value in values.items() if np.isfinite(value)}
    shown = [name for name in _BENCHMARK_COLUMNS if name in known]
    title = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in result.facts.items())
    table = Table(title=title, title_justify="left", padding=(0, 0, 0, 1))
    table.add_column("model", no_wrap=True)
    for name in shown:
        table.add_column(_BENCHMARK_COLUMNS[name], justify="right")
    for model, values in result.metrics.items():
        table.add_row(model, *(_with_interval(values, name) for name in shown))
    return table


def _cgm_table(result: Benchmark) -> Table:
    """Show each test set and horizon with its models."""
    title = f"Glucose below 70 mg/dL; thresholds find {result.facts['recall_on_training']:.0%} of the training sets' episodes"
    table = Table(title=title, title_justify="left", padding=(0, 0, 0, 1))
    table.add_column("set, horizon", no_wrap=True)
    table.add_column("model", no_wrap=True)
    for heading in _CGM_COLUMNS.values():
        table.add_column(heading, justify="right")
    parts = [name.removesuffix("_auroc") for name in next(iter(result.metrics.values())) if name.endswith("_auroc")]
    for part in parts:
        for number, (model, values) in enumerate(result.metrics.items()):
            of_part = {name.removeprefix(f"{part}_"): value for name, value in values.items() if name.startswith(f"{part}_")}
            title = "" if number else part.replace("_", " ")
            table.add_row(title, model, *(_with_interval(of_part, name) for name in _CGM_COLUMNS), end_section=model == "value")
    return table


def _with_interval(values: Mapping[str, float], name: str) -> str:
    if not np.isfinite(values.get(name, np.nan)):
        return ""
    if values[name] == int(values[name]):
        return f"{values[name]:.0f}"
    digits = 1 if name == "event2" else 3
    interval = f" ({values[f'{name}_low']:.{digits}f}-{values[f'{name}_high']:.{digits}f})" if f"{name}_low" in values else ""
    return f"{values[name]:.{digits}f}{interval}"
