"""What Prometheus is told: how fresh risks are, what is quarantined, how risks lie, alarms, and which model serves.

Never a patient: labels are reasons, routes and versions, and not even wards, since a ward may have one bed.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from models.assessment import Risk
from models.registry import RegisteredModel
from serving.board import Page
from serving.drift_figures import DriftFigures
from serving.journal import Received

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_SECONDS: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60, 300)
_REQUEST_SECONDS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_PROBABILITIES: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


class _Ours(Collector):
    """What libraries count for themselves is not passed on: nobody here knows what it holds."""

    def collect(self) -> Iterable[Metric]:
        try:
            found = MultiProcessCollector(CollectorRegistry()).collect()  # type: ignore[no-untyped-call]
        except ValueError:  # there is one process only
            found = REGISTRY.collect()
        return [family for family in found if family.name.startswith("vigil_")]


class Metrics:
    """Those of one process; the server's ``/metrics`` adds up the processes'. Make one, once."""

    def __init__(self) -> None:
        self._readings = Counter("vigil_readings_total", "Readings by what became of them.", ["status", "reason"])
        self._freshness = Histogram(
            "vigil_freshness_seconds", "From a reading accepted to the risk made of it.", buckets=_SECONDS
        )
        self._risks = Histogram("vigil_risk_probability", "Probabilities as they were rescored.", buckets=_PROBABILITIES)
        self._bases = Counter(
            "vigil_risks_total", "Risks by what they rest on and what set the band.", ["basis", "band", "decided_by"]
        )
        self._alarms = Counter("vigil_alarms_total", "Alarms by what happened, and what sounded them.", ["event", "cause"])
        self._findings = Counter("vigil_findings_total", "Risks with a finding, such as outside_training.", ["finding"])
        self._reasons = Counter("vigil_news2_reasons_total", "Risks in which a rule of NEWS2 holds.", ["reason"])
        self._failures = Counter("vigil_rescoring_failures_total", "Steps of the rescorer, or patients, that failed.")
        self._feast_age = Gauge(
            "vigil_feast_age_seconds", "Age of the oldest row that was just written.", multiprocess_mode="mostrecent"
        )
        self._feast_rows = Counter("vigil_feast_rows_total", "Rows written into the feature store.", ["status"])
        self._model = Gauge(
            "vigil_model_info",
            "1 for the model in use.",
            ["name", "version", "feature_service"],
            multiprocess_mode="mostrecent",
        )
        self._requests = Histogram("vigil_request_seconds", "Requests.", ["path", "status"], buckets=_REQUEST_SECONDS)
        self._in_use: tuple[str, str, str] | None = None

    def page(self, home: Path) -> bytes:
        """All of them, of all processes of the server, and what its home says of drift, as Prometheus reads them."""
        registry = CollectorRegistry()
        registry.register(_Ours())
        registry.register(DriftFigures(home))
        return generate_latest(registry)

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
        self._feast_age.set(oldest_seconds)
        self._feast_rows.labels("written").inc(rows)

    def feast_failed(self) -> None:
        """A batch is not."""
        self._feast_rows.labels("failed").inc()

    def serving(self, model: RegisteredModel) -> None:
        """Which model is in use; one that was withdrawn is not."""
        labels = (model.name, model.version, model.feature_service)
        if self._in_use is not None and self._in_use != labels:
            self._model.labels(*self._in_use).set(0)
        self._model.labels(*labels).set(0 if model.withdrawn else 1)
        self._in_use = labels
