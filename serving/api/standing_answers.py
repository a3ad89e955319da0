"""Answers with risks that stand, written as JSON once."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from features.pseudonyms import Pseudonyms
from serving.api.schemas.risks import RiskRequest, risk_answer
from serving.auth.tokens import Caller
from serving.scoring.standing import StandingRisks

_MOST_ANSWERS: Final = 10_000  # remembered, of about 2 KB each


@dataclass(frozen=True, slots=True)
class _Answer:
    subject: str
    version: tuple[object, ...]  # of what it was made of
    body: bytes


class StandingAnswers:
    """The answers of one process. For one thread."""

    def __init__(self, risks: StandingRisks, pseudonyms: Pseudonyms) -> None:
        self._risks, self._pseudonyms = risks, pseudonyms
        self._answers: OrderedDict[str, _Answer] = OrderedDict()  # by patient identifier

    def find(self, caller: Caller, patient_id: str) -> bytes | None:
        """Return the answer about a patient; None: the route has to answer."""
        known = self._answers.get(patient_id)
        subject = self._pseudonyms.subject_key(patient_id) if known is None else known.subject
        standing = self._risks.find(subject)
        if standing is None or not caller.can_see(standing.stored["ward"]):
            return None
        version = (standing.stored["prediction_id"], standing.silence_changed_at)
        if known is None or known.version != version:
            RiskRequest(patient_id=patient_id)
            answer = risk_answer(self._risks.report(standing), patient_id)
            known = self._answers[patient_id] = _Answer(subject, version, answer.model_dump_json().encode())
            if len(self._answers) > _MOST_ANSWERS:
                self._answers.popitem(last=False)
        self._answers.move_to_end(patient_id)
        return known.body
