"""What calls for action by itself, whatever the model and NEWS2 say."""

from vigil.models.alarms.critical_bounds import Bound, applies
from vigil.models.alarms.patient_terms import Breach, PatientTerms, find_breaches
from vigil.models.assessment import Assessment
from vigil.serving.records.timestamps import microsecond


def find_critical(risk: Assessment, bounds: tuple[Bound, ...], terms: PatientTerms | None) -> tuple[Bound | Breach, ...]:
    """Return the critical ones of the bounds that stand, and the limits of the patient that are reached."""
    if not bounds and terms is None:  # of most patients
        return ()
    reached = find_breaches(risk.components, microsecond(risk.index_time), terms)
    return (*(bound for bound in bounds if applies(bound, news2=risk.score == "NEWS2")), *reached)
