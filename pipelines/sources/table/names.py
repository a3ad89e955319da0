"""What columns are called: names of signals and of facts, in English and German, by which a mapping is drafted."""

import re
from collections.abc import Mapping
from typing import Final

from vigil.features.signals import SIGNALS
from vigil.features.units import find_conversion

# Beside the names in the signal table. A name that means two things, such as RR (respiratory rate, or Riva-Rocci's blood
# pressure), is listed where it is used most; a draft doubts what its values do not fit.
_OF_SIGNALS: Final[Mapping[str, str]] = {
    "heart_rate": "hr, heartrate, pulse, pulse rate, pr, hf, herzfrequenz, puls, heart rate mean",
    "respiratory_rate": "rr, resp, resp rate, resprate, respiration, respiration rate, af, atemfrequenz",
    "spo2": "o2sat, sao2 pulse, saturation, o2 sat, oxygen saturation, sauerstoffsattigung, satt, spo2 mean",
    "systolic_bp": (
        "sbp, sysabp, nisysabp, sys, systolic, systolic bp, systolic blood pressure, rr sys, bp sys, rrsys, "
        "nibp systolic, nbp systolic, nbps, systemicsystolic, blutdruck systolisch, systolisch"
    ),
    "diastolic_bp": (
        "dbp, diasabp, nidiasabp, dia, diastolic, diastolic bp, diastolic blood pressure, rr dia, bp dia, "
        "rrdia, nibp diastolic, nbp diastolic, nbpd, systemicdiastolic, blutdruck diastolisch, diastolisch"
    ),
    "mean_bp": "map, mbp, mean bp, mean arterial pressure, nimap, rr mittel, systemicmean, mittlerer blutdruck",
    "body_temperature": "temp, temperature, body temp, bodytemp, temperatur, korpertemperatur, t",
    "glucose": "glu, glc, blood glucose, bg, blutzucker, bz, glukose",
    "consciousness": "avpu, acvpu, level of consciousness, bewusstsein",
    "on_oxygen": "oxygen, supplemental oxygen, o2 therapy, o2 gabe, sauerstoffgabe",
    "fio2": "inspired oxygen, fraction of inspired oxygen",
    "base_excess": "be, baseexcess",
    "bicarbonate": "hco3, bicar",
    "ph": "arterial ph",
    "paco2": "pco2",
    "pao2": "po2",
    "ast": "sgot, got",
    "alt": "sgpt, gpt",
    "bun": "blood urea nitrogen",
    "alkaline_phosphatase": "alp, alkalinephos, ap",
    "calcium": "ca",
    "chloride": "cl, chlorid",
    "creatinine": "crea, krea, kreatinin",
    "bilirubin_direct": "bili dir",
    "bilirubin_total": "bili, bilirubin",
    "lactate": "lact, laktat",
    "magnesium": "mg",
    "phosphate": "phos, phosphat",
    "potassium": "k, kalium",
    "sodium": "na, natrium",
    "troponin_i": "tni",
    "troponin_t": "tnt",
    "hematocrit": "hct, hamatokrit",
    "hemoglobin": "hgb, hb, hamoglobin",
    "wbc": "leukocytes, leukozyten, leukos",
    "ptt": "aptt",
    "platelets": "plt, thrombozyten, thrombos",
    "fibrinogen": "fgn",
    "albumin": "alb",
    "cholesterol": "chol",
    "glasgow_coma_scale": "gcs",
    "urine_output": "urine, urin",
    "body_weight": "weight, gewicht",
    "body_height": "height, grosse",
    "mechanical_ventilation": "mechvent, ventilated, beatmet",
}
_FACTS: Final[Mapping[str, str]] = {
    "stay": (
        "stay, stay id, icustay id, hadm id, encounter, encounter id, visit, visit id, visit occurrence id, "
        "case, case id, fall, fallnummer, fall nr, fall id, admission id, patientunitstayid, record id, "
        "recordid"
    ),
    "patient": (
        "patient, patient id, patientid, patient nr, pat, pat id, pat nr, subject, subject id, mrn, "
        "person id, uniquepid, pid, id"
    ),
    "time": (
        "time, timestamp, datetime, date time, charttime, observed at, measured at, observationoffset, zeit, "
        "zeitpunkt, messzeit, datum uhrzeit, date"
    ),
    "recorded": "storetime, recorded at, recorded",
    "start": (
        "start, admission, admission time, admit time, admittime, admitted, admitted at, intime, aufnahme, "
        "aufnahmezeit, visit start datetime"
    ),
    "end": (
        "end, discharge, discharge time, dischtime, discharged, discharged at, outtime, entlassung, "
        "entlassungszeit, visit end datetime"
    ),
    "age": "age, alter, anchor age, age years, alter jahre",
    "born": "dob, birth date, birthdate, date of birth, geburtsdatum, birth datetime",
    "sex": "sex, gender, geschlecht",
    "ward": "ward, station, careunit, care unit, first careunit, department, abteilung, unittype, ward name",
    "site": "site, hospital, hospital id, hospitalid, klinik, haus",
    "device": "device, device id, monitor, gerat",
    "signal": (
        "signal, parameter, item, itemid, item id, label, name, measurement, code, variable, vital, "
        "measurement concept id, test"
    ),
    "value": "value, valuenum, wert, result, ergebnis, value as number, messwert",
    "unit": "unit, units, valueuom, uom, einheit, unit source value",
}
_OUTCOME: Final = re.compile(
    r"\b(onset|outcome|event|died|death|deceased|dead|mortality|expire flag|sepsis|sepsislabel|aki|arrest|deterioration|label|"
    r"icu transfer|transfer icu|verlegung its|verlegung|verstorben|exitus|ereignis)\b"
)
_IN_BRACKETS: Final = re.compile(r"[(\[{]([^)\]}]*)[)\]}]")
_LAST_WORD: Final = re.compile(r"(.+?)[\s_]+(\S+)")
_FOLDED: Final = str.maketrans({"ä": "a", "ö": "o", "ü": "u", "ß": "ss"})

_SIGNAL_OF: Final = {
    **{name.replace("_", " "): name for name in SIGNALS},
    **{synonym: name for name, synonyms in _OF_SIGNALS.items() for synonym in synonyms.split(", ")},
}
_FACT_OF: Final = {synonym: fact for fact, synonyms in _FACTS.items() for synonym in synonyms.split(", ")}


def find_signal(name: str) -> tuple[str | None, str | None]:
    """Return the signal that a column or code is called after, and the unit that its name holds.

    >>> find_signal("Temp (°F)"), find_signal("HR_bpm"), find_signal("Station")
    (('body_temperature', '°F'), ('heart_rate', 'bpm'), (None, None))
    """
    bracket, last = _IN_BRACKETS.search(name), _LAST_WORD.fullmatch(name)
    divisions: list[tuple[str, str | None]] = [(name, None)]
    if bracket:
        divisions = [(_IN_BRACKETS.sub(" ", name), bracket.group(1).strip())]
    elif last:
        divisions.append((last.group(1), last.group(2)))
    for called, unit in divisions:
        signal = next((_SIGNAL_OF[words] for words in spellings(called) if words in _SIGNAL_OF), None)
        if signal is not None:
            return signal, unit if unit and find_conversion(signal, unit) else None
    return None, None


def find_fact(name: str) -> str | None:
    """Return the field of a mapping that a column is called after.

    >>> find_fact("Fall-Nr."), find_fact("admit_time"), find_fact("Temp")
    ('stay', 'start', None)
    """
    return next((_FACT_OF[words] for words in spellings(name) if words in _FACT_OF), None)


def is_outcome(name: str) -> bool:
    """Return whether a column is called after something that may be an outcome."""
    return any(_OUTCOME.search(words) for words in spellings(name))


def spellings(name: str) -> list[str]:
    """Return a name in small letters without signs, as it is and with its inner capitals as beginnings of words."""
    return [
        " ".join(re.findall(r"[a-z0-9]+", text.lower().translate(_FOLDED)))
        for text in (name, re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name))
    ]
