"""The risk that stands: what the rescorer made of a subject counts until something new is recorded of them.

So most answers are read and not made again: the same prediction, as of the time it was made for.
"""

import json
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import timedelta
from threading import Lock
from typing import Any, Final

from vigil.features.catalogue import INDEX_STEP, views_to_assess
from vigil.models.alarms.patient_terms import restore_terms
from vigil.models.assessment import Assessment, usable_model
from vigil.models.bedside import Component, ScoreTerms
from vigil.models.registry import RegisteredModel
from vigil.models.tasks import RiskTask
from vigil.serving.records.clock import Clock
from vigil.serving.records.journal import Journal
from vigil.serving.records.timestamps import instant, microsecond
from vigil.serving.records.ward_rows import WardRisk, restore_bound
from vigil.serving.records.ward_state import Standing, WardState
from vigil.serving.scoring.champion import Champion, service_in_use
from vigil.serving.scoring.risk_report import Contribution, Include, RiskReport, contributions_of, range_of
from vigil.serving.scoring.subject_state import features_as_of

_KEPT: Final = 4_096  # predictions whose contributions are kept
_INDEX_STEP_US: Final = INDEX_STEP // timedelta(microseconds=1)


class _Explained:
    """Contributions by prediction, those of the last :data:`_KEPT`. Threads may share it."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, list[Contribution]] = OrderedDict()
        self._lock = Lock()

    def find(self, prediction_id: str) -> list[Contribution] | None:
        """Return the contributions to a prediction; None: they are not known."""
        with self._lock:
            return self._known.get(prediction_id)

    def keep(self, prediction_id: str, contributions: list[Contribution]) -> None:
        """Remember the contributions to a prediction."""
        with self._lock:
            self._known[prediction_id] = contributions
            while len(self._known) > _KEPT:
                self._known.popitem(last=False)


@dataclass(frozen=True)
class StandingRisks:
    """Finds the risks that stand."""

    champion: Champion
    task: RiskTask
    journal: Journal
    ward_state: WardState
    clock: Clock
    _explained: _Explained = field(default_factory=_Explained)

    def find(self, subject: str) -> Standing | None:
        """Return the risk that stands for a subject; None: it has to be made.

        It stands while it is of the model in use and not stale, and nothing has happened since that could change it.
        """
        standing = self.ward_state.standing(subject)
        if standing is None or not self._is_current(standing):
            return None
        # In this order: what is recorded in between is seen.
        is_news = self.journal.is_news(subject, standing.stored["index_time"], standing.read_until)
        return None if is_news else standing

    def have_changed(self) -> bool:
        """Return whether anything was written since the last call that a risk may no longer stand for. For one thread."""
        has_changed = self.ward_state.has_changed()
        return self.journal.has_changed() or has_changed

    def report(self, standing: Standing, include: Collection[Include] = ()) -> RiskReport:
        """Return the report of a risk that stands, as it was logged. ``include``: what else to report."""
        risk = standing.risk()
        times = {risk.subject_id: risk.index_time}
        with self.journal.snapshot() as journal:
            senders = journal.latest(times)[risk.subject_id]
        bounds = tuple(map(restore_bound, risk.bounds or ()))
        has_stopped = standing.silence_changed_at is not None
        stopped = self.ward_state.silences.stopped(times).get(risk.subject_id, ()) if has_stopped else ()
        model = usable_model(self.champion.model)
        assessment = restore_assessment(risk)
        report = RiskReport(
            risk.prediction_id,
            assessment,
            assessment.index_time,
            self.task,
            model,
            risk.feature_service,
            senders=senders,
        )
        if "contributions" in include:
            report = replace(report, contributions=self._contributions(model, risk))
        if "range" in include:
            report = replace(report, range=range_of(model, assessment))
        terms = None if risk.terms is None else restore_terms(risk.terms)
        return report.with_bounds(bounds, terms).with_stopped(stopped)

    def reasons(self, risk: WardRisk) -> list[Contribution] | None:
        """Return the contributions to a risk of a ward, the strongest first; None: the model in use did not make it."""
        model = usable_model(self.champion.model)
        if model is None or risk.assessment is None or risk.model_version != model.version:
            return None
        return self._contributions(model, risk)

    def known_reasons(self, risk: WardRisk) -> list[Contribution] | None:
        """Return the contributions to a risk if they were asked for before; None: they were not, or there are none."""
        return self._explained.find(risk.prediction_id)

    def _contributions(self, model: RegisteredModel | None, risk: WardRisk) -> list[Contribution] | None:
        """Return the contributions to a risk, from the features that it was made of. They never change, so they are kept."""
        known = self._explained.find(risk.prediction_id)
        if known is not None:
            return known
        with self.journal.snapshot() as journal:
            time, views = risk.index_time, views_to_assess(risk.feature_service)
            rows = features_as_of(journal, views, [risk.subject_id], time)
        (made,) = contributions_of(model, rows, [restore_assessment(risk)])
        if made is not None:
            self._explained.keep(risk.prediction_id, made)
        return made

    def _is_current(self, standing: Standing) -> bool:
        stored, registered = standing.stored, self.champion.model
        model = usable_model(registered)
        in_use = (model.version if model else None, service_in_use(registered, self.task))
        now = microsecond(self.clock.now(stored["subject_id"]))
        return (
            (stored["model_version"], stored["feature_service"]) == in_use
            and stored["assessment"] is not None
            and stored["index_time"] <= now < stands_until(standing)
            and (standing.silence_changed_at or 0) <= stored["index_time"]
        )


def stands_until(standing: Standing) -> int:
    """Return when a risk stands no more, even if nothing happens: it is stale then, or the patient's terms end."""
    terms = json.loads(standing.stored["terms"] or "null")
    end: int = standing.stored["index_time"] + _INDEX_STEP_US
    return end if terms is None or terms["until"] is None else min(end, terms["until"])


def describe_assessment(risk: Assessment) -> dict[str, Any]:
    """Return what is stored of an assessment beside the columns of :class:`WardRisk`."""
    return {
        "band": risk.band,
        "decided_by": risk.decided_by,
        "reasons": risk.reasons,
        "components": {
            signal: (component.points, component.value, component.hours, component.is_expired)
            for signal, component in risk.components.items()
        },
        "terms": risk.terms.to_json(),
        "net_spot": risk.net_spot,
        "score": risk.score,
        "hours_since_reading": risk.hours_since_reading,
    }


def restore_assessment(risk: WardRisk) -> Assessment:
    """Return the assessment that a risk was made of, without what critical bounds changed."""
    assert risk.assessment is not None
    rest = dict(risk.assessment)
    return Assessment(
        patient=risk.subject_id,
        index_time=instant(risk.index_time),
        basis=risk.basis,
        probability=risk.probability,
        news2=risk.news2,
        news2_highest=risk.news2_highest,
        net_score=risk.net_score,
        findings=tuple(risk.findings or ()),
        unusual=tuple(risk.unusual or ()),
        components={signal: Component(*values) for signal, values in rest.pop("components").items()},
        terms=ScoreTerms.from_json(rest.pop("terms")),
        reasons=tuple(rest.pop("reasons")),
        **rest,
    )
