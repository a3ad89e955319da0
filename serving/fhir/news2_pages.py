"""The NEWS2 of patients, as callers read it: the present one by its code, and that of any risk by id."""

from dataclasses import dataclass
from typing import Any, Final

from vigil.models.bedside import COMPONENTS
from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.chart import Chart
from vigil.serving.fhir.concepts import SNOMED
from vigil.serving.fhir.news2 import CATEGORY, ID_PREFIX, NEWS2_CODE, to_news2_observation
from vigil.serving.fhir.past_risk_assessments import PastRiskAssessments
from vigil.serving.fhir.search import Search
from vigil.serving.records.timestamps import microsecond
from vigil.serving.scoring.past_risks import PastRisk
from vigil.serving.scoring.risk_report import NoReport, RiskReport
from vigil.serving.scoring.risk_service import RiskService

_CODES: Final = frozenset((NEWS2_CODE, f"{SNOMED}|{NEWS2_CODE}"))


@dataclass(frozen=True)
class News2Pages:
    """The NEWS2 of one home."""

    chart: Chart
    risk_service: RiskService
    past: PastRiskAssessments

    def read(self, identity: str, caller: Caller) -> dict[str, Any] | None:
        """Return the NEWS2 of a risk by its id; None: there is none that the caller may see."""
        past = self.past.find(identity.removeprefix(ID_PREFIX), caller)
        return None if past is None else self._of(past)

    def _of(self, past: PastRisk) -> dict[str, Any]:
        inputs = [own for own in past.inputs if own.signal in COMPONENTS]
        return to_news2_observation(past.report, self.past.patient(past), self.past.references(inputs))

    def search(self, search: Search, caller: Caller) -> list[dict[str, Any]]:
        """Return the NEWS2 that a search asks for: the present one by its code, or any by id."""
        subject = search.subject
        if search.after is not None or not _is_of_kind(search):
            return []
        if search.ids is not None:
            ids = [identity.removeprefix(ID_PREFIX) for identity in search.ids if identity.startswith(ID_PREFIX)]
            found = [past for identity in dict.fromkeys(ids) if (past := self.past.find(identity, caller)) is not None]
            if search.patient is not None:
                found = [past for past in found if self.chart.survivor(past.subject) == subject]
            return [self._of(past) for past in found if _is_of_time(search, past.report)]
        if subject is None or "code" not in search.tokens:
            return []
        report = self.risk_service.by_subject([subject])[0]
        if isinstance(report, NoReport) or not _is_of_time(search, report):
            return []
        references = self.past.inputs_of(report, COMPONENTS)
        return [to_news2_observation(report, self.chart.directory.reference(subject), references)]


def _is_of_kind(search: Search) -> bool:
    """Return whether a search asks for no code and no category but those of NEWS2."""
    categories = search.tokens.get("category", (CATEGORY,))
    return not _CODES.isdisjoint(search.tokens.get("code", _CODES)) and CATEGORY in {
        each.rpartition("|")[2] for each in categories
    }


def _is_of_time(search: Search, report: RiskReport) -> bool:
    """Return whether a search asks for no time but that of a risk."""
    at, times = microsecond(report.as_of), [search.time(name) for name in ("date", "_lastUpdated")]
    return all(time.since <= at <= time.until for time in times)
