"""Codes and columns of a cohort as MEDS: what each event is called, and which column holds what MEDS has no place for.

An observation has the code ``LOINC//8867-4//min``: vocabulary, code, unit (UCUM, without a slash at its beginning). Signals
without a LOINC code, and bounds, have ``VIGIL//on_oxygen//1``. A value that was corrected or retracted later has the prefix
``SUPERSEDED//``, so that no reader takes it for one that counts. An age, and a value that float32 does not hold to the
resolution of its signal, stands in full in ``text_value``, too.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from vigil.features.errors import VigilError
from vigil.features.signal import Signal
from vigil.features.signals import STORED
from vigil.models.cohort import patient_of
from vigil.pipelines.sources._shared.origin import OUTCOME

# The standard that is written: https://github.com/Medical-Event-Data-Standard/meds
MEDS_VERSION: Final = "0.4"

STAY: Final = "stay"  # the column that holds the subject key of each event's stay
AGE: Final = "LOINC//30525-0//a"
SEXES: Final = {"SEX//female": 0.0, "SEX//male": 1.0}
ATTRIBUTE: Final = "ATTRIBUTE//"  # before the name of an attribute of a stay; its value is in text_value
START: Final = "STAY_START"
TIMES: Final = {
    START: "start",
    "STAY_END": "end",
    "UNIT_ADMISSION": "unit_admitted_at",
    "HOSPITAL_ADMISSION": "hospital_admitted_at",
}
SUPERSEDED: Final = "SUPERSEDED//"
EXTENSIONS: Final = {  # by the list of dataset.json that names them
    "raw_source_id_columns": (STAY, "message_id"),
    "site_id_columns": ("site",),
    "other_extension_columns": ("recorded_at", "superseded_at", "device_id", "source", "ward"),
}

_DESCRIBED: Final = {
    AGE: ("age at the start of the stay, in years", ["LOINC/30525-0"]),
    "SEX//female": ("female", ["LOINC/46098-0"]),
    "SEX//male": ("male", ["LOINC/46098-0"]),
    START: ("start of monitoring; its site and ward are those of the stay", []),
    "STAY_END": ("end of monitoring", []),
    "UNIT_ADMISSION": ("admission to the unit", []),
    "HOSPITAL_ADMISSION": ("admission to the hospital", []),
}


def code_of(signal: Signal) -> str:
    """Return the code of a signal's observations.

    >>> code_of(STORED["heart_rate"]), code_of(STORED["on_oxygen"])
    ('LOINC//8867-4//min', 'VIGIL//on_oxygen//1')
    """
    vocabulary, code = ("VIGIL", signal.name) if signal.loinc is None else ("LOINC", signal.loinc)
    return f"{vocabulary}//{code}//{signal.unit.removeprefix('/')}"


def _codes() -> dict[str, str]:
    """Return the code of each stored signal. One of an installed package whose code is taken is told by its name."""
    codes: dict[str, str] = {}
    for name, signal in STORED.items():
        code = code_of(signal)
        codes[name] = code_of(replace(signal, loinc=None)) if code in codes.values() else code
    return codes


CODES: Final = _codes()
SIGNAL_OF: Final = {code: name for name, code in CODES.items()}


def describe(code: str) -> tuple[str, list[str]]:
    """Return the description of a code that an export writes, and its parents in other vocabularies.

    >>> describe("SUPERSEDED//LOINC//8867-4//min")
    ('heart rate, /min; corrected or retracted later', ['LOINC/8867-4'])
    """
    own = code.removeprefix(SUPERSEDED)
    if own in SIGNAL_OF:
        signal = STORED[SIGNAL_OF[own]]
        loinc = STORED[signal.limit_of or signal.name].loinc
        later = "; corrected or retracted later" if code != own else ""
        return f"{signal.name.replace('_', ' ')}, {signal.unit}{later}", [] if loinc is None else [f"LOINC/{loinc}"]
    if code in _DESCRIBED:
        return _DESCRIBED[code]
    if code.startswith(ATTRIBUTE):
        return f"{code.removeprefix(ATTRIBUTE)} of the stay, by which patients are grouped", []
    kind = code.removeprefix(OUTCOME[True]).removeprefix(OUTCOME[False])
    known = "onset" if code.startswith(OUTCOME[True]) else "begun before the record; its time is the latest possible onset"
    return f"{kind}: {known}", []


def number_subjects(subjects: Iterable[str]) -> dict[str, int]:
    """Return the MEDS subject of each subject: a positive int64 that follows from the patient's pseudonym alone.

    Stays of one patient have one number, and each export gives a patient the same.

    Raises:
        VigilError: two patients have one number, which among a million happens in one of ten million exports.

    >>> number_subjects(["bfkwjlrkg7dxrhdl2qzwn3i4"])
    {'bfkwjlrkg7dxrhdl2qzwn3i4': 4693437857001769806}
    """
    patients = {subject: patient_of(subject) for subject in subjects}
    numbers = {patient: _number(patient) for patient in set(patients.values())}
    if len(set(numbers.values())) < len(numbers):
        raise VigilError("subject_id: two patients have one number of 63 bits; export the cohort in two parts")
    return {subject: numbers[patient] for subject, patient in patients.items()}


def _number(patient: str) -> int:
    return int.from_bytes(hashlib.blake2b(patient.encode(), digest_size=8, person=b"vigil-meds").digest()) >> 1
