"""Drift as Prometheus metrics: the last run of ``vigil drift``, read from ``HOME/reports/drift.json`` at each scrape.

Metrics name a fault and its signal, never its location: a device or a gateway may be one patient's.
"""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from pydantic import ValidationError

from vigil.features.signals import STORED
from vigil.models.monitoring.report_schema import REPORT_FILE, DriftReport, FindingRecord, Status

STATUS: Final = {status.name.lower(): int(status) for status in Status}
OTHER: Final = "other"  # in place of a label that names no fault or no signal

_FAULT_NAME: Final = re.compile(r"[a-z0-9_]{1,40}")


class DriftFigures(Collector):
    """Drift metrics of one home. Without a report there are none; an unreadable report counts as a broken run."""

    def __init__(self, home: Path) -> None:
        self._path = home / "reports" / REPORT_FILE

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the metrics of the current report."""
        try:
            report = DriftReport.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, ValidationError):  # none of its content is passed on
            yield _status_metric("broken")
            return
        yield _status_metric(report.status)
        judged = report.judged_at.timestamp()
        yield GaugeMetricFamily("vigil_drift_judged_timestamp_seconds", "When drift was last judged.", value=judged)
        faults = GaugeMetricFamily("vigil_drift_faults", "Locations with a fault of the data.", labels=["fault", "signal"])
        for labels, locations in Counter(_labels(finding) for finding in report.findings if not finding.question).items():
            faults.add_metric(labels, locations)
        yield faults
        if report.columns:
            yield GaugeMetricFamily("vigil_drift_columns_share", "Share of drifted columns.", value=report.columns.share)
        estimated = report.performance.estimated if report.performance else None
        if estimated and estimated.auroc is not None:
            yield GaugeMetricFamily("vigil_drift_estimated_auroc", "AUROC expected without outcomes.", value=estimated.auroc)
        if report.decision:
            decision = GaugeMetricFamily("vigil_drift_decision_info", "1 for the action the plan asks for.", labels=["action"])
            decision.add_metric([report.decision.action], 1)
            yield decision


def _status_metric(status: str) -> GaugeMetricFamily:
    return GaugeMetricFamily("vigil_drift_status", "0 fine, 1 drift, 2 broken.", value=STATUS[status])


def _labels(finding: FindingRecord) -> tuple[str, str]:
    """Return fault and signal, empty for all signals. Whatever a report may hold, no label names a patient."""
    fault = finding.fault if _FAULT_NAME.fullmatch(finding.fault) else OTHER
    signal = finding.signal or ""
    return fault, signal if signal in {"", *STORED} else OTHER
