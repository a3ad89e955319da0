"""The risk that was last made of each patient in exports, as RiskAssessment.

The log holds up to one a minute. An export tells the last of them each time. What an export before told is gone then, and can
still be read by its id.
"""

from collections.abc import Iterator

from vigil.serving.fhir.exports.parts import Gone, Part, Told
from vigil.serving.fhir.sent_readings import SLACK
from vigil.serving.records.journal_exports import Member


def export_risks(told: Told, member: Member) -> Iterator[Part]:
    """Yield the RiskAssessment of a patient, if there is one, and those that are gone."""
    # Here, as it imports models: that takes seconds, and only risks need them.
    from vigil.serving.fhir.risk_assessments import to_risk_assessment

    risks = told.risks()
    last = risks.log.last(member.keys, told.until)
    past = None if last is None else risks.find(last)
    if past is not None:
        ids = told.directory.ids
        basis = [f"Observation/{ids.of_row(own.row)}" for own in past.inputs]
        yield to_risk_assessment(past.report, told.directory.reference(member.subject), basis, past.model)
    if told.since is None:
        return
    before = told.since - SLACK  # one that was just made may not have been in the log yet
    for key in [*member.keys, *sorted(member.lost)]:
        former = dict.fromkeys((risks.log.last([key], before), *risks.log.made(key, before, told.since)))
        yield from (Gone("RiskAssessment", identity) for identity in former if identity not in (None, last))
