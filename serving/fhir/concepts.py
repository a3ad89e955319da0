"""Codes of FHIR: which signal an Observation or a component is of, and what coded answers mean.

LOINC and MDC codes of signals are in :mod:`vigil.features.codes`. Here is what FHIR has beside them.

Sources. ACVPU answers: SNOMED CT, as UK Core's value set ACVPU has them, and LOINC's answers to 67775-7 and for "confused".
Oxygen: SNOMED CT 371825009 (patient on oxygen) with yes and no; LOINC 3151-8 (inhaled oxygen flow rate). Panels: LOINC 85354-9,
55284-4, 85353-1 and 96607-7; MDC 150020. Categories: https://terminology.hl7.org/CodeSystem-observation-category.html.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from vigil.features.codes import LOINC, MDC, codes_of_kind, resolve_codes
from vigil.features.signals import SIGNALS
from vigil.serving.fhir.refusals import RefusedError

Form = Literal["quantity", "answer", "state", "flow"]
Codings = tuple[tuple[str, str], ...]

SNOMED: Final = "http://snomed.info/sct"
UCUM: Final = "http://unitsofmeasure.org"
SIGNAL_SYSTEM: Final = "urn:vigil:signal"  # Vigil's own names, for signals that no other system has a code for
CATEGORY_SYSTEMS: Final = (
    "http://terminology.hl7.org/CodeSystem/observation-category",
    "http://hl7.org/fhir/observation-category",  # of STU3, still sent
)
FLOW: Final = (LOINC, "3151-8")
FLOW_UNITS: Final = {"L/min": 1.0, "mL/min": 0.001, "L/h": 1 / 60}
LARGEST_FLOW: Final = 100.0  # L/min; ours: high-flow devices give up to 70

CODES_OF: Final[Mapping[tuple[str, str], str]] = {
    (LOINC, "67775-7"): "consciousness",
    (SNOMED, "1104441000000107"): "consciousness",
    (SNOMED, "371825009"): "on_oxygen",
    FLOW: "on_oxygen",
    **{(SIGNAL_SYSTEM, name): name for name in SIGNALS},
}
_YES_NO: Final = {(SNOMED, "373066001"): 1.0, (SNOMED, "373067005"): 0.0}
ANSWERS: Final[Mapping[str, Mapping[tuple[str, str], float]]] = {
    "consciousness": {
        (SNOMED, "248234008"): 0.0,
        (SNOMED, "130987000"): 1.0,
        (SNOMED, "300202002"): 2.0,
        (SNOMED, "450847001"): 3.0,
        (SNOMED, "422768004"): 4.0,
        (LOINC, "LA9340-6"): 0.0,
        (LOINC, "LA6560-2"): 1.0,
        (LOINC, "LA17108-4"): 2.0,
        (LOINC, "LA17107-6"): 3.0,
        (LOINC, "LA9343-0"): 4.0,
    },
    "on_oxygen": _YES_NO,
    "mechanical_ventilation": _YES_NO,
}
PRESSURES: Final = ("systolic_bp", "diastolic_bp", "mean_bp")
# A panel has no value of its own. What a correction of a panel leaves out is retracted.
PANELS: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    (LOINC, "85354-9"): PRESSURES,
    (LOINC, "55284-4"): PRESSURES,
    (MDC, "150020"): PRESSURES,
    (LOINC, "85353-1"): (),  # vital signs, by hasMember
    (LOINC, "96607-7"): (),  # means over days
}


@dataclass(frozen=True, slots=True)
class Concept:
    """What a CodeableConcept says of an Observation or a component.

    Attributes:
        signal: as it is sent on: a name, or the code where that says more of the unit; empty: unknown.
        name: of the signal, in the signal table.
        reason: why there is none, a key of :data:`vigil.features.observations.REASONS`; else empty.
        form: how its values are read.
        panel: the signals of a panel; None: it is no panel.
    """

    signal: str
    name: str = ""
    reason: str = ""
    form: Form = "quantity"
    panel: tuple[str, ...] | None = None


def read_codings(concept: Any, path: str) -> Codings:
    """Return the systems and codes of a CodeableConcept; codings without one of both say nothing.

    Raises:
        RefusedError: it is malformed.
    """
    if isinstance(concept, dict) and isinstance(codings := concept.get("coding", []), list):
        pairs = []
        for coding in codings:
            if not isinstance(coding, dict):
                break
            system, code = coding.get("system"), coding.get("code")
            if type(system) is str and type(code) is str:
                pairs.append((system, code))
            elif not ((system is None or type(system) is str) and (code is None or type(code) is str)):
                break
        else:
            return tuple(pairs)
    raise RefusedError("malformed", path, "CodeableConcept", "an object with coding: a list of system and code")


def resolve(codings: Codings, category: str | None, own_codes: Mapping[tuple[str, str], str]) -> Concept:
    """Return what codings say.

    Args:
        codings: of one CodeableConcept.
        category: ``vital-signs`` or ``laboratory``; it decides what 2708-6 alone means.
        own_codes: signals of codes that a hospital uses beside the standard ones.

    >>> resolve(((LOINC, "8867-4"),), None, {}).name
    'heart_rate'
    >>> resolve(((LOINC, "8867-4"), (LOINC, "8310-5")), None, {}).reason
    'codes_disagree'
    """
    for pair in codings:
        if pair in PANELS:
            return Concept("", panel=PANELS[pair])
    known = {name for pair in codings if (name := own_codes.get(pair) or CODES_OF.get(pair))}
    signal, reason = resolve_codes(codings, category)
    if signal is not None:
        known.add(signal)
    elif reason != "unknown_signal" and not known:
        return Concept("", reason=reason)
    if len(known) != 1 or reason == "codes_disagree":
        return Concept("", reason="codes_disagree" if known else "unknown_signal")
    name = known.pop()
    kind = codes_of_kind(code for system, code in codings if system == LOINC)
    if kind is None:
        return Concept("", reason="codes_disagree")
    return Concept(kind or name, name, form=_form(name, codings))


def _form(name: str, codings: Codings) -> Form:
    if FLOW in codings:
        return "flow"
    if name == "consciousness":
        return "answer"
    return "state" if name in ANSWERS else "quantity"


def find_answer(name: str, codings: Codings) -> float | None:
    """Return the value of a coded answer; None: there is none, or codings contradict each other.

    >>> find_answer("consciousness", ((SNOMED, "300202002"),))
    2.0
    """
    values = {ANSWERS[name][pair] for pair in codings if pair in ANSWERS[name]}
    return values.pop() if len(values) == 1 else None


def read_category(resource: Mapping[str, Any]) -> str | None:
    """Return ``vital-signs`` or ``laboratory``, if an Observation says one of both. A specimen is of a laboratory."""
    found = {"laboratory"} if "specimen" in resource else set()
    categories = resource.get("category", [])
    for category in categories if isinstance(categories, list) else []:
        codings = category.get("coding", []) if isinstance(category, dict) else []
        for coding in codings if isinstance(codings, list) else []:
            if isinstance(coding, dict) and coding.get("system") in CATEGORY_SYSTEMS:
                code = coding.get("code")
                if code in ("vital-signs", "laboratory"):
                    found.add(code)
    return found.pop() if len(found) == 1 else None
