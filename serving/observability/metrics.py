"""Metrics for Prometheus: freshness and distribution of risks, quarantined observations, alarms, and the model in use.

They never name a patient. Labels are reasons, routes and versions. Wards are no labels either, because a ward may have one bed.
"""

import logging
import time
from collections import Counter as Counts
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

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

from vigil.features.scores import NEWS2_BANDS
from vigil.serving.observability.drift_metrics import DriftFigures
from vigil.serving.records.journal_rows import Receipt
from vigil.serving.records.silence_rows import SILENCE_KINDS, Silence
from vigil.serving.records.ward_rows import WardUpdate

if TYPE_CHECKING:  # it takes seconds to import, and not every process has a model
    from vigil.models.assessment import Assessment
    from vigil.models.registry import RegisteredModel

logger = logging.getLogger("vigil.serving")

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
RESCORER: Final = "rescorer"  # names a process, and its file of metrics in the home
_SUFFIX: Final = ".prom"
_FRESH_SECONDS: Final = 15.0  # after which the file of another API process is of one that has ended
_SECONDS: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60, 300)
_REQUEST_SECONDS: Final = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_PROBABILITIES: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


class Metrics:
    """The metrics of one process of the server.

    Each process writes its metrics to a file. The API process that is asked adds those of the others to its own.
    """

    def __init__(self, process: str = "api") -> None:
        """``process``: names the process among those of the server."""
        self.process = process
        _count_in_memory()
        self._registry = CollectorRegistry()
        options: dict[str, Any] = {"registry": self._registry}
        self._readings = Counter("vigil_readings_total", "Observations by result.", ["status", "reason"], **options)
        self._freshness = Histogram(
            "vigil_freshness_seconds", "From an accepted observation to its risk.", buckets=_SECONDS, **options
        )
        self._risks = Histogram("vigil_risk_probability", "Probabilities of rescored risks.", buckets=_PROBABILITIES, **options)
        self._bases = Counter(
            "vigil_risks_total", "Rescored risks by basis and by what set the band.", ["basis", "band", "decided_by"], **options
        )
        self._alarms = Counter("vigil_alarms_total", "Alarms by event and cause.", ["event", "cause"], **options)
        self._findings = Counter(
            "vigil_findings_total", "Rescored risks with a finding, such as outside_training.", ["finding"], **options
        )
        self._reasons = Counter(
            "vigil_news2_reasons_total", "Rescored risks in which a rule of NEWS2 holds.", ["reason"], **options
        )
        self._failures = Counter(
            "vigil_rescoring_failures_total", "Steps of the rescorer, or patients, that failed.", **options
        )
        self._silence_events = Counter(
            "vigil_silences_total", "Signals that stopped or returned, and sources, by event.", ["event"], **options
        )
        for kind in SILENCE_KINDS:
            self._silence_events.labels(kind)  # 0 from the start, so that the first event is an increase
        self._notifications = Counter(
            "vigil_notifications_total", "Notifications of subscriptions by result.", ["result"], **options
        )
        for result in ("delivered", "failed"):
            self._notifications.labels(result)
        # A gauge is registered when it is first set, so that a process without a value does not report 0.
        self._feast_age = Gauge("vigil_feast_age_seconds", "Age of the oldest row of the latest batch.", registry=None)
        self._feast_rows = Counter("vigil_feast_rows_total", "Rows written into the feature store.", ["status"], **options)
        self._model = Gauge(
            "vigil_model_info", "1 for the model in use.", ["name", "version", "feature_service"], registry=None
        )
        self._stopped_signals = Gauge("vigil_stopped_signals", "Signals that have stopped.", ["signal"], registry=None)
        self._silent_sources = Gauge("vigil_silent_sources", "Sources that are silent.", registry=None)
        self._waiting = Gauge("vigil_notifications_waiting", "Events that wait for an endpoint.", registry=None)
        self._requests = Histogram(
            "vigil_request_seconds", "Time until an answer began.", ["path", "status"], buckets=_REQUEST_SECONDS, **options
        )
        self._in_use: tuple[str, str, str] | None = None
        self._registered_gauges: set[Gauge] = set()
        self._seen_stopped: set[str] = set(NEWS2_BANDS)  # signals whose gauge is set; vital signs always
        self._write_has_failed = False

    def render(self, home: Path) -> bytes:
        """Return the metrics of all processes of the server, and those of drift, in Prometheus' text format."""
        registry = CollectorRegistry()
        registry.register(_CombinedCollector(self._registry, home, self.process))
        registry.register(DriftFigures(home))
        return generate_latest(registry)

    def store(self, home: Path) -> None:
        """Write the metrics of this process to its file. A failure is logged once; the next call tries again."""
        path = home / f"{self.process}{_SUFFIX}"
        unfinished = path.with_suffix(".unfinished")
        try:
            unfinished.write_bytes(generate_latest(self._registry))
            unfinished.replace(path)
            self._write_has_failed = False
        except OSError as error:
            if not self._write_has_failed:
                logger.warning("%s: cannot be written (%s); its metrics are late", path.name, type(error).__name__)
            self._write_has_failed = True

    def observe_request(self, path: str, status: int, seconds: float) -> None:
        """Record one answered request and the time until its answer began."""
        self._requests.labels(path, str(status)).observe(seconds)

    def count_receipts(self, receipts: Iterable[Receipt]) -> None:
        """Count observations by result."""
        for receipt in receipts:
            self._readings.labels(receipt.status, receipt.reason or "").inc()

    def observe_freshness(self, seconds: Sequence[float]) -> None:
        """Record the time from observation to risk, in seconds, for each patient of a rescoring."""
        for value in seconds:
            self._freshness.observe(value)

    def count_rescoring_failure(self) -> None:
        """Count a failed step of the rescorer, or a patient that could not be rescored."""
        self._failures.inc()

    def count_update(self, update: WardUpdate, risks: "Sequence[Assessment]") -> None:
        """Record the risks and alarms of a rescoring."""
        bases = Counts((risk.basis, risk.band, risk.decided_by) for risk in risks)
        for labels, number in bases.items():
            self._bases.labels(*labels).inc(number)
        for finding, number in Counts(finding for risk in risks for finding in risk.findings).items():
            self._findings.labels(finding).inc(number)
        for reason, number in Counts(reason for risk in risks for reason in risk.reasons).items():
            self._reasons.labels(reason).inc(number)
        for risk in risks:
            if risk.probability is not None:
                self._risks.observe(risk.probability)
        for event in update.events:
            if event.kind.startswith("alarm"):
                self._alarms.labels(event.kind, event.body.get("cause") or "").inc()

    def count_action(self, action: str) -> None:
        """Count an action on an alarm, such as ``acknowledged``."""
        self._alarms.labels(action, "").inc()

    def count_silence_events(self, kinds: Iterable[str]) -> None:
        """Count events of signals that stopped or returned, and of sources."""
        for kind in kinds:
            self._silence_events.labels(kind).inc()

    def set_silences(self, silences: Sequence[Silence]) -> None:
        """Record which signals have stopped now, and how many sources are silent; nothing names a patient or a source."""
        self._register(self._stopped_signals)
        self._register(self._silent_sources)
        stopped = Counts(silence.signal for silence in silences if silence.signal is not None)
        for signal in self._seen_stopped | stopped.keys():
            self._stopped_signals.labels(signal).set(stopped[signal])
        self._seen_stopped |= stopped.keys()
        self._silent_sources.set(len({silence.source for silence in silences if silence.subject_id is None}))

    def count_notification(self, *, delivered: bool) -> None:
        """Count a notification of a subscription that its endpoint took, or did not."""
        self._notifications.labels("delivered" if delivered else "failed").inc()

    def set_waiting_notifications(self, events: int) -> None:
        """Record how many events wait for the endpoints of subscriptions."""
        self._register(self._waiting)
        self._waiting.set(events)

    def observe_online_store(self, oldest_seconds: float, rows: int) -> None:
        """Record a batch of rows written to the feature store, and the age of its oldest row in seconds."""
        self._register(self._feast_age)
        self._feast_age.set(oldest_seconds)
        self._feast_rows.labels("written").inc(rows)

    def count_online_store_failure(self) -> None:
        """Count a batch that could not be written to the feature store."""
        self._feast_rows.labels("failed").inc()

    def set_model(self, model: "RegisteredModel") -> None:
        """Record the model in use. The value is 0 if it was withdrawn, and for models used before."""
        self._register(self._model)
        labels = (model.name, model.version, model.feature_service)
        if self._in_use is not None and self._in_use != labels:
            self._model.labels(*self._in_use).set(0)
        self._model.labels(*labels).set(0 if model.withdrawn else 1)
        self._in_use = labels

    def _register(self, gauge: Gauge) -> None:
        if gauge not in self._registered_gauges:
            self._registered_gauges.add(gauge)
            self._registry.register(gauge)


class _CombinedCollector(Collector):
    """Collector that adds the metrics of the other processes, from their files, to those of this one.

    If several have set a gauge, this process's value counts.
    """

    def __init__(self, own: CollectorRegistry, home: Path, process: str) -> None:
        self._own = own
        self._home = home
        self._process = process

    def collect(self) -> Iterable[Metric]:
        """Return all metric families."""
        families = {family.name: family for family in self._own.collect()}
        for path in sorted(self._home.glob(f"*{_SUFFIX}")):
            if path.stem == self._process:
                continue
            try:
                text, written_at = path.read_text(), path.stat().st_mtime
                others = list(text_string_to_metric_families(text))
            except (OSError, ValueError):  # the other process has ended, or not written yet
                continue
            age = max(0.0, time.time() - written_at)
            if path.stem == RESCORER:
                family = Metric("vigil_rescorer_metrics_age_seconds", "Time since the rescorer wrote its metrics.", "gauge")
                family.add_sample(family.name, {}, age)
                families[family.name] = family
            elif age > _FRESH_SECONDS:
                continue
            for other in others:
                if other.name in families:
                    _add_samples(families[other.name], other)
                else:
                    families[other.name] = other
        return list(families.values())


def _add_samples(family: Metric, other: Metric) -> None:
    """Add the samples of another process's family to a family."""
    remaining = {(sample.name, *sorted(sample.labels.items())): sample for sample in other.samples}
    samples = []
    for sample in family.samples:
        same = remaining.pop((sample.name, *sorted(sample.labels.items())), None)
        is_sum = same is not None and family.type != "gauge"
        samples.append(sample._replace(value=sample.value + same.value) if same and is_sum else sample)
    family.samples = [*samples, *remaining.values()]


def _count_in_memory() -> None:
    """Configure the Prometheus library to count in memory.

    BentoML configures it to count in memory-mapped files. When their disk is full, the kernel kills the process that counts.
    Monitoring must not stop a server.
    """
    values.ValueClass = values.MutexValue
    disable_created_metrics()  # type: ignore[no-untyped-call]
