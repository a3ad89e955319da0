"""Merges: ``POST /v1/patients/merge`` and ``POST /v1/patients/unmerge``."""

from typing import Annotated, Final

from fastapi import APIRouter, Security

from vigil.features.kernel.plan import UNBOUNDED
from vigil.serving.api.authentication import require_scopes
from vigil.serving.api.dependencies import IdentitiesHere, IngestionHere, JournalHere, PseudonymsHere
from vigil.serving.api.refusals import as_problems
from vigil.serving.api.schemas.merges import MergeAnswer, MergeIn, UnmergeIn
from vigil.serving.api.strict_route import StrictRoute
from vigil.serving.auth.tokens import Caller
from vigil.serving.identity.identities import Identities
from vigil.serving.records.journal import Journal

router: Final = APIRouter(prefix="/v1/patients", tags=["observations"], route_class=StrictRoute)

Writer = Annotated[Caller, Security(require_scopes, scopes=["patients:write"])]


@router.post("/merge", summary="Let one patient identifier count for another: both are of one person")
def merge_patients(
    request: MergeIn,
    ingestion: IngestionHere,
    journal: JournalHere,
    identities: IdentitiesHere,
    pseudonyms: PseudonymsHere,
    caller: Writer,
) -> MergeAnswer:
    """From now on the observations of `patient_id`, past and future, count for `into`. Risks of before stay as they were given.

    A caller restricted to wards needs the wards of both. Merging again what is merged changes nothing.
    """
    with as_problems():
        changed = ingestion.merge(request.patient_id, request.into, caller)
    return _answer(request.patient_id, pseudonyms.subject_key(request.patient_id), changed, journal, identities)


@router.post("/unmerge", summary="Let a merged patient identifier count for itself again")
def unmerge_patients(
    request: UnmergeIn,
    ingestion: IngestionHere,
    journal: JournalHere,
    identities: IdentitiesHere,
    pseudonyms: PseudonymsHere,
    caller: Writer,
) -> MergeAnswer:
    """From now on the observations of `patient_id` count for it again, those that arrived while it was merged, too."""
    with as_problems():
        changed = ingestion.unmerge(request.patient_id, caller)
    return _answer(request.patient_id, pseudonyms.subject_key(request.patient_id), changed, journal, identities)


def _answer(patient_id: str, subject: str, changed: bool, journal: Journal, identities: Identities) -> MergeAnswer:
    with journal.snapshot() as snapshot:
        into = snapshot.merged_into(subject, UNBOUNDED)
        registration = snapshot.registration(into or subject, UNBOUNDED)
    return MergeAnswer(
        patient_id=patient_id,
        merged_into=None if into is None else identities.find_or_empty([into])[into],
        changed=changed,
        ward=None if registration is None else registration.ward,
        discharged=registration is not None and registration.discharged,
    )
