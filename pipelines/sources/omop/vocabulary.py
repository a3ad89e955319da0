"""Concepts of a cohort as OMOP: which one each signal, unit, sex and bound has, and the files beside the tables of OMOP.

Sexes, visits, types and operators have the numbers of OHDSI's standardised vocabularies (https://athena.ohdsi.org). Signals and
units are numbered from 2,000,000,000 on, as local concepts are: the table ``concept`` tells their vocabulary and code.
"""

from typing import Final, NamedTuple

from vigil.features.codes import LOINC, accepted_codes
from vigil.features.signals import SIGNALS, STORED, measured_signal

CDM_VERSION: Final = "v5.4"
INPATIENT: Final = 9201
EHR: Final = 32817  # type: from a health record
NO_CONCEPT: Final = 0
SEXES: Final = {0.0: 8532, 1.0: 8507}
AT_MOST: Final = 4171754
AT_LEAST: Final = 4171755
STAY_FACTS: Final = "vigil_visit"  # what OMOP has no place for, by visit_occurrence_id
PROVENANCE: Final = "vigil_measurement"  # and by measurement_id

_FIRST_LOCAL: Final = 2_000_000_000


class Concept(NamedTuple):
    """A local concept, as a row of the table ``concept`` has it."""

    concept_id: int
    concept_name: str
    domain_id: str
    vocabulary_id: str
    concept_code: str


def _signal_concept(number: int, name: str) -> Concept:
    signal = SIGNALS[name]
    is_clear = signal.loinc is not None and signal.loinc in accepted_codes(LOINC, name)
    vocabulary, code = ("LOINC", str(signal.loinc)) if is_clear else ("Vigil", name)
    return Concept(_FIRST_LOCAL + number, name.replace("_", " "), "Measurement", vocabulary, code)


# A signal without a LOINC code of its own is a concept of the vocabulary Vigil; so is SaO2, whose code SpO2 shares.
SIGNAL_CONCEPTS: Final = {name: _signal_concept(number, name) for number, name in enumerate(SIGNALS)}
_UNITS: Final = list(dict.fromkeys(signal.unit for signal in SIGNALS.values()))
UNIT_CONCEPTS: Final = {
    unit: Concept(_FIRST_LOCAL + 1000 + number, unit, "Unit", "UCUM", unit) for number, unit in enumerate(_UNITS)
}


def operator_of(name: str) -> int | None:
    """Return the operator of the values of a stored signal; None: they are exact.

    >>> operator_of("glucose"), operator_of("glucose_below_range") == AT_MOST
    (None, True)
    """
    limit_of = STORED[name].limit_of
    if limit_of is None:
        return None
    return AT_MOST if name.removeprefix(limit_of).startswith("_below") else AT_LEAST


# (concept, operator) of each stored signal.
MEASURED: Final = {name: (SIGNAL_CONCEPTS[measured_signal(name)].concept_id, operator_of(name)) for name in STORED}
