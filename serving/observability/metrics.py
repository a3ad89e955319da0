"""What Prometheus is told: how fresh risks are, what is quarantined, how risks lie, alarms, and which model serves.

Never a patient: labels are reasons, routes and versions, and not even wards, since a ward may have one bed.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    disable_created_metrics,
    generate_latest,
    values,
)
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from models.assessment import Risk
from models.registry import RegisteredModel
from serving.observability.drift_metrics import DriftFigures
from serving.records.journal import Received
from serving.records.ward_state import Page

logger = logging.getLogger("vigil.serving")

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
FILE: Final = "rescorer.prom"  # under the home: what the rescorer counts
_SECONDS: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60, 300)
_REQUEST_SECONDS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_PROBABILITIES: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)

# BentoML asks the library to count in files that are mapped into memory: where their disk is full, the kernel kills whoever
# counts. We count in memory, and what only observes stops nobody.
values.ValueClass = values.MutexValue
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """What one process of the server counts. The rescorer keeps its own in a file, and the API's page adds them up."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ours: dict[str, Any] = {"registry": self._registry}
        self._readings = Counter("vigil_readings_total", "Readings by what became of them.", ["status", "reason"], **ours)
        self._freshness = Histogram(
            "vigil_freshness_seconds", "From a reading accepted to the risk made of it.", buckets=_SECONDS, **ours
        )
        self._risks = Histogram(
            "vigil_risk_probability", "Probabilities as they were rescored.", buckets=_PROBABILITIES, **ours
        )
        self._bases = Counter(
            "vigil_risks_total", "Risks by what they rest on and what set the band.", ["basis", "band", "decided_by"], **ours
        )
        self._alarms = Counter(
            "vigil_alarms_total", "Alarms by what happened, and what sounded them.", ["event", "cause"], **ours
        )
        self._findings = Counter("vigil_findings_total", "Risks with a finding, such as outside_training.", ["finding"], **ours)
        self._reasons = Counter("vigil_news2_reasons_total", "Risks in which a rule of NEWS2 holds.", ["reason"], **ours)
        self._failures = Counter("vigil_rescoring_failures_total", "Steps of the rescorer, or patients, that failed.", **ours)
        # Gauges are shown by a process that has set them: nought is not what the others know.
        self._feast_age = Gauge("vigil_feast_age_seconds", "Age of the oldest row that was just written.", registry=None)
        self._feast_rows = Counter("vigil_feast_rows_total", "Rows written into the feature store.", ["status"], **ours)
        self._model = Gauge(
            "vigil_model_info", "1 for the model in use.", ["name", "version", "feature_service"], registry=None
        )
        self._requests = Histogram("vigil_request_seconds", "Requests.", ["path", "status"], buckets=_REQUEST_SECONDS, **ours)
        self._in_use: tuple[str, str, str] | None = None
        self._shown: set[Gauge] = set()
        self._late = False

    def page(self, home: Path) -> bytes:
        """All of them, of both processes of the server, and what its home says of drift, as Prometheus reads them."""
        registry = CollectorRegistry()
        registry.register(_Together(self._registry, home / FILE))
        registry.register(DriftFigures(home))
        return generate_latest(registry)

    def keep(self, home: Path) -> None:
        """Let the other process show what this one has counted. What cannot be written now is written the next time."""
        path = home / FILE
        unfinished = path.with_suffix(".unfinished")
        try:
            unfinished.write_bytes(generate_latest(self._registry))
            unfinished.replace(path)
            self._late = False
        except OSError as error:
            if not self._late:  # said once, until it works again
                logger.warning("%s: cannot be written (%s); the rescorer's metrics are late", FILE, type(error).__name__)
            self._late = True

    def answered(self, path: str, status: int, seconds: float) -> None:
        """A request was."""
        self._requests.labels(path, str(status)).observe(seconds)

    def received(self, results: Iterable[Received]) -> None:
        """What became of readings."""
        for result in results:
            self._readings.labels(result.status, result.reason or "").inc()

    def rescored(self, seconds: Sequence[float]) -> None:
        """How long it took from reading to risk, of each patient."""
        for value in seconds:
            self._freshness.observe(value)

    def rescoring_failed(self) -> None:
        """A step of the rescorer, or a patient, could not be done."""
        self._failures.inc()

    def published(self, page: Page, risks: Sequence[Risk]) -> None:
        """What a rescoring said."""
        for risk in risks:
            self._bases.labels(risk.basis, risk.band, risk.decided_by).inc()
            for finding in risk.findings:
                self._findings.labels(finding).inc()
            for reason in risk.reasons:
                self._reasons.labels(reason).inc()
            if risk.probability is not None:
                self._risks.observe(risk.probability)
        for event in page.events:
            if str(event["kind"]).startswith("alarm"):
                self._alarms.labels(event["kind"], event["body"].get("cause") or "").inc()

    def acted(self, action: str) -> None:
        """Somebody did something about an alarm."""
        self._alarms.labels(action, "").inc()

    def feast_written(self, oldest_seconds: float, rows: int) -> None:
        """Rows are in the feature store."""
        self._show(self._feast_age)
        self._feast_age.set(oldest_seconds)
        self._feast_rows.labels("written").inc(rows)

    def feast_failed(self) -> None:
        """A batch is not."""
        self._feast_rows.labels("failed").inc()

    def serving(self, model: RegisteredModel) -> None:
        """Which model is in use; one that was withdrawn is not."""
        self._show(self._model)
        labels = (model.name, model.version, model.feature_service)
        if self._in_use is not None and self._in_use != labels:
            self._model.labels(*self._in_use).set(0)
        self._model.labels(*labels).set(0 if model.withdrawn else 1)
        self._in_use = labels

    def _show(self, gauge: Gauge) -> None:
        if gauge not in self._shown:
            self._shown.add(gauge)
            self._registry.register(gauge)


class _Together(Collector):
    """What both processes count, added up; of a gauge that both have set ours counts."""

    def __init__(self, ours: CollectorRegistry, theirs: Path) -> None:
        self._ours = ours
        self._theirs = theirs

    def collect(self) -> Iterable[Metric]:
        found = {family.name: family for family in self._ours.collect()}
        try:
            text, written_at = self._theirs.read_text(), self._theirs.stat().st_mtime
            others = list(text_string_to_metric_families(text))
        except (OSError, ValueError):  # there is no rescorer yet
            return list(found.values())
        for family in others:
            if family.name in found:
                _add(found[family.name], family)
            else:
                found[family.name] = family
        age = Metric("vigil_rescorer_metrics_age_seconds", "Since the rescorer wrote down what it counts.", "gauge")
        age.add_sample(age.name, {}, max(0.0, time.time() - written_at))
        return [*found.values(), age]


def _add(family: Metric, other: Metric) -> None:
    """Add the samples of another process to those of this one."""
    theirs = {(sample.name, *sorted(sample.labels.items())): sample for sample in other.samples}
    samples = []
    for sample in family.samples:
        added = theirs.pop((sample.name, *sorted(sample.labels.items())), None)
        count = added is not None and family.type != "gauge"
        samples.append(sample._replace(value=sample.value + added.value) if added and count else sample)
    family.samples = [*samples, *theirs.values()]
