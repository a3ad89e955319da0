"""Answers with risks that stand, written as JSON once."""

import time
from collections import OrderedDict
from typing import Final, NamedTuple

from vigil.features.pseudonyms import Pseudonyms
from vigil.models.registry import RegisteredModel
from vigil.serving.api.schemas.risks import RiskRequest, risk_answer
from vigil.serving.auth.tokens import Caller
from vigil.serving.scoring.standing import StandingRisks, stands_until

_MOST_ANSWERS: Final = 10_000  # remembered, of about 2 KB each


class _Basis(NamedTuple):
    """What an answer was made of. ``until``: when the risk stands no more, seconds."""

    prediction_id: str
    silence_changed_at: int | None
    ward: str
    model: RegisteredModel | None
    until: float


class _Answer(NamedTuple):
    """One answer about a subject, as JSON."""

    subject: str
    basis: _Basis
    body: bytes


class StandingAnswers:
    """The answers of one process. For one thread."""

    def __init__(self, risks: StandingRisks, pseudonyms: Pseudonyms) -> None:
        self._risks, self._pseudonyms = risks, pseudonyms
        self._answers: OrderedDict[str, _Answer] = OrderedDict()  # by patient identifier
        self._standing: set[str] = set()  # those that stand, as nothing was written since they were found

    def find(self, caller: Caller, patient_id: str) -> bytes | None:
        """Return the answer about a patient; None: the route has to answer."""
        if self._risks.have_changed():
            self._standing.clear()
        answer = self._answers.get(patient_id)
        if answer is None or not self._stands(patient_id, answer):
            answer = self._renew(patient_id, answer)
        return answer.body if answer is not None and caller.can_see(answer.basis.ward) else None

    def _stands(self, patient_id: str, answer: _Answer) -> bool:
        is_as_found = patient_id in self._standing and answer.basis.model is self._risks.champion.model
        return is_as_found and time.time() < answer.basis.until

    def _renew(self, patient_id: str, known: _Answer | None) -> _Answer | None:
        """Return an answer that stands, the known one if it does; None: there is none."""
        self._standing.discard(patient_id)
        subject = self._pseudonyms.subject_key(patient_id) if known is None else known.subject
        model = self._risks.champion.model
        standing = self._risks.find(subject)
        if standing is None:
            return None
        stored = standing.stored
        until = stands_until(standing) / 1e6
        basis = _Basis(stored["prediction_id"], standing.silence_changed_at, stored["ward"], model, until)
        if known is None or known.basis != basis:
            RiskRequest(patient_id=patient_id)
            body = risk_answer(self._risks.report(standing), patient_id).model_dump_json().encode()
            known = self._answers[patient_id] = _Answer(subject, basis, body)
            if len(self._answers) > _MOST_ANSWERS:
                self._answers.popitem(last=False)
        self._answers.move_to_end(patient_id)
        self._standing.add(patient_id)
        return known
