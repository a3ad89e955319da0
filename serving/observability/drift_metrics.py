"""What the last run of ``vigil drift`` found, as Prometheus is told: read from ``HOME/reports/drift.json`` when somebody asks.

Which fault and of which signal, never where: a device or a gateway may be one patient's.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from pydantic import AwareDatetime, BaseModel, ConfigDict, FiniteFloat, ValidationError

from features.signals import SIGNALS

REPORT: Final = "drift.json"  # under HOME/reports
STATUS: Final = {"fine": 0, "drift": 1, "broken": 2}
OTHER: Final = "other"  # a label in the place of what is none

_A_FAULT: Final = re.compile(r"[a-z0-9_]{1,40}")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


class _Finding(_Part):
    fault: str
    signal: str | None


class _Columns(_Part):
    share: FiniteFloat


class _Estimated(_Part):
    auroc: FiniteFloat | None = None


class _Performance(_Part):
    estimated: _Estimated | None = None


class _Decision(_Part):
    action: Literal["none", "warn", "recalibrate", "retrain", "withdraw"]


class _Report(_Part):
    """What is read of it. A report of a run that broke may have its status and time alone."""

    status: Literal["fine", "drift", "broken"]
    judged_at: AwareDatetime
    findings: list[_Finding] = []
    columns: _Columns | None = None
    performance: _Performance | None = None
    decision: _Decision | None = None


class DriftFigures(Collector):
    """Those of one home. Without a report there are none; one that cannot be read is a broken run."""

    def __init__(self, home: Path) -> None:
        self._path = home / "reports" / REPORT

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The figures of the report as it is now."""
        try:
            report = _Report.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, ValidationError):  # nothing of what it holds is passed on
            yield _status("broken")
            return
        yield _status(report.status)
        judged = report.judged_at.timestamp()
        yield GaugeMetricFamily("vigil_drift_judged_timestamp_seconds", "When drift was last judged.", value=judged)
        faults = GaugeMetricFamily("vigil_drift_faults", "Places with a fault of the data.", labels=["fault", "signal"])
        for labels, places in Counter(map(_labels, report.findings)).items():
            faults.add_metric(labels, places)
        yield faults
        if report.columns:
            yield GaugeMetricFamily("vigil_drift_columns_share", "Of the columns that drifted.", value=report.columns.share)
        estimated = report.performance.estimated if report.performance else None
        if estimated and estimated.auroc is not None:
            yield GaugeMetricFamily("vigil_drift_estimated_auroc", "Of the model, without outcomes.", value=estimated.auroc)
        if report.decision:
            decision = GaugeMetricFamily("vigil_drift_decision_info", "1 for what is to be done.", labels=["action"])
            decision.add_metric([report.decision.action], 1)
            yield decision


def _status(status: str) -> GaugeMetricFamily:
    return GaugeMetricFamily("vigil_drift_status", "0 fine, 1 drift, 2 broken.", value=STATUS[status])


def _labels(finding: _Finding) -> tuple[str, str]:
    """Fault and signal; empty where it is of all signals. Whatever else a report may hold, no label names a patient."""
    fault = finding.fault if _A_FAULT.fullmatch(finding.fault) else OTHER
    signal = finding.signal or ""
    return fault, signal if signal in {"", *SIGNALS} else OTHER
