"""The summary of a patient as a FHIR document (https://hl7.org/fhir/R4/documents.html): it stands alone wherever it is sent.

LOINC 60591-5 is the code of a patient summary. Its sections are Vigil's own, so they have titles and no codes.
"""

import html
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from vigil.features.codes import LOINC
from vigil.serving.fhir.times import write_instant

_SUMMARY: Final = {"coding": [{"system": LOINC, "code": "60591-5"}], "text": "Patient summary"}
_XHTML: Final = "http://www.w3.org/1999/xhtml"


def to_document(
    patient: Mapping[str, Any], sections: Sequence[tuple[str, Sequence[Mapping[str, Any]]]], made_at: datetime, base: str
) -> dict[str, Any]:
    """Return a Bundle of the type document.

    Args:
        patient: the Patient.
        sections: title and resources of each; an empty one says so.
        made_at: when it was made.
        base: URL of this server's FHIR base.
    """
    made = write_instant(made_at)
    composition = {
        "resourceType": "Composition",
        "id": str(uuid.uuid4()),
        "contained": [
            {"resourceType": "Device", "id": "vigil", "deviceName": [{"name": "Vigil", "type": "user-friendly-name"}]}
        ],
        "status": "final",
        "type": _SUMMARY,
        "subject": {"reference": _name(patient)},
        "date": made,
        "author": [{"reference": "#vigil"}],
        "title": "Early warning: summary of a patient",
        "section": [_section(title, resources) for title, resources in sections],
    }
    whole = [composition, patient, *(resource for _, resources in sections for resource in resources)]
    return {
        "resourceType": "Bundle",
        "identifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{uuid.uuid4()}"},
        "type": "document",
        "timestamp": made,
        "entry": [{"fullUrl": f"{base}/{_name(resource)}", "resource": resource} for resource in whole],
    }


def _name(resource: Mapping[str, Any]) -> str:
    return f"{resource['resourceType']}/{resource['id']}"


def _section(title: str, resources: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    number = f"{len(resources)} entries" if resources else "nothing"
    text = {"status": "generated", "div": f'<div xmlns="{_XHTML}"><p>{html.escape(title)}: {number}</p></div>'}
    entries = {"entry": [{"reference": _name(resource)} for resource in resources]} if resources else {}
    return {"title": title, "text": text, **entries}
