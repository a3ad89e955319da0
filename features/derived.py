"""Features derived from other features: ratios, organ measures, the personal baseline, and the intensity of monitoring.

Early-warning scores are in :mod:`vigil.features.derived_scores`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vigil.features import scores
from vigil.features.signals import SIGNALS
from vigil.features.windows import Feature, WindowFeature, declare_statistics

Float64 = NDArray[np.float64]
Columns = Mapping[str, Float64]

# How long a score may carry a value forward. Vital signs: a ward round is missed now and then, but not for a whole day.
# Laboratory: blood is drawn once or twice a day, and a result stands until the next one.
SCORE_CARRY_HOURS: Final = 24
LABORATORY_CARRY_HOURS: Final = 72

# Possible error of a single measurement. Where a patient varies less than this, anomalies are scaled by this error.
# Heart rate: ANSI/AAMI EC13 and IEC 60601-2-27 (5 /min or 10 %). Pressure: ISO 81060-2 (standard deviation of the error 8).
# Temperature: ISO 80601-2-56 (0.3). Glucose: ISO 15197:2013 (15 mg/dL or 15 %). SpO2 and respiratory rate: the usual claim of
# monitors (ISO 80601-2-61 allows twice as much for SpO2). Using these limits as the least meaningful deviation is our choice.
MEASUREMENT_ERROR: Final = {
    "heart_rate": 5.0,
    "respiratory_rate": 2.0,
    "spo2": 2.0,
    "systolic_bp": 8.0,
    "diastolic_bp": 8.0,
    "mean_bp": 8.0,
    "body_temperature": 0.3,
    "glucose": 15.0,
}


@dataclass(frozen=True, slots=True)
class DerivedFeatures:
    """A group of features with the function that computes them.

    Attributes:
        features: Descriptions of the features.
        compute: Function from arrays of one shape by name to at least the arrays of ``features``. It receives the arrays of
            ``needs`` and the patient's ``age``, ``sex``, ``pregnant``, ``hours_in_unit`` and ``hours_in_hospital_before``.
        needs: Window features and derived features that ``compute`` reads. A view need not contain them.
    """

    features: tuple[Feature, ...]
    compute: Callable[[Columns], Columns]
    needs: tuple["WindowFeature | DerivedFeatures", ...] = ()


def declare_latest(*signals: str, hours: int = SCORE_CARRY_HOURS) -> tuple[WindowFeature, ...]:
    """Declare the latest value of each signal, carried forward for at most the given hours."""
    return declare_statistics(signals, hours, "last")


def read_latest(columns: Columns, signals: Iterable[str], hours: int = SCORE_CARRY_HOURS) -> dict[str, Float64]:
    """Return the columns that :func:`declare_latest` declares, by signal."""
    return {signal: columns[f"{signal}_last_{hours}h"] for signal in signals}


def _compute_shock_index(columns: Columns) -> Columns:
    last = read_latest(columns, ("heart_rate", "systolic_bp"))
    return {"shock_index": scores.compute_shock_index(last["heart_rate"], last["systolic_bp"])}


SHOCK_INDEX: Final = DerivedFeatures(
    (Feature("shock_index", "shock_index", "1", "heart rate / systolic pressure", source="Allgower 1967"),),
    _compute_shock_index,
    declare_latest("heart_rate", "systolic_bp"),
)


def _compute_ratios(columns: Columns) -> Columns:
    last = read_latest(columns, ("systolic_bp", "diastolic_bp", "spo2", "fio2", "on_oxygen"))
    fio2_is_newer = columns[f"fio2_age_{SCORE_CARRY_HOURS}h"] < columns[f"on_oxygen_age_{SCORE_CARRY_HOURS}h"]
    on_oxygen = np.where(fio2_is_newer, np.nan, last["on_oxygen"])
    return {
        "pulse_pressure": last["systolic_bp"] - last["diastolic_bp"],
        "spo2_fio2": scores.compute_spo2_fio2(last["spo2"], last["fio2"], on_oxygen),
    }


RATIOS: Final = DerivedFeatures(
    (
        Feature("pulse_pressure", "pulse_pressure", "mm[Hg]", "systolic minus diastolic pressure"),
        Feature(
            "spo2_fio2",
            "spo2_fio2",
            "1",
            "SpO2 / FiO2 (FiO2 of room air while no oxygen is given)",
            source="Pandharipande 2009",
        ),
    ),
    _compute_ratios,
    declare_latest("systolic_bp", "diastolic_bp", "spo2", "fio2", "on_oxygen")
    + declare_statistics(("fio2", "on_oxygen"), SCORE_CARRY_HOURS, "age"),
)


def declare_monitoring_intensity(vitals: tuple[str, ...]) -> DerivedFeatures:
    """Declare how many vital signs are measured and how long ago the latest measurement was."""

    def compute(columns: Columns) -> Columns:
        ages = np.stack([columns[f"{vital}_age_{SCORE_CARRY_HOURS}h"] for vital in vitals])
        return {
            "vitals_known": (~np.isnan(ages)).sum(axis=0).astype(np.float64),
            "hours_since_reading": np.fmin.reduce(ages, axis=0),
        }

    return DerivedFeatures(
        (
            Feature(
                "vitals_known", "measuring", "{count}", f"vital signs measured in the last {SCORE_CARRY_HOURS} h", "workflow"
            ),
            Feature(
                "hours_since_reading",
                "measuring",
                "h",
                f"hours since the latest measurement of any vital sign, within the last {SCORE_CARRY_HOURS} h",
                "workflow",
            ),
        ),
        compute,
        declare_statistics(vitals, SCORE_CARRY_HOURS, "age"),
    )


def declare_personal_baseline(vitals: tuple[str, ...]) -> DerivedFeatures:
    """Declare the distance of each vital sign from the patient's first day and usual value.

    The present level is the exponentially weighted mean of the last 6 h. The usual value is the mean of everything so far. The
    anomaly is the distance from the usual value in standard deviations, which combine the patient's own standard deviation with
    the measurement error (square root of the sum of squares).

    Args:
        vitals: Signals of :data:`MEASUREMENT_ERROR`.
    """
    errors = np.array([MEASUREMENT_ERROR[vital] for vital in vitals])[:, None]

    def compute(columns: Columns) -> Columns:
        level, usual, first_day, deviation = (
            np.stack([columns[f"{vital}_{statistic}"] for vital in vitals])
            for statistic in ("ema_6h", "mean_so_far", "mean_first_day", "std_so_far")
        )
        deviation = np.where(np.isnan(deviation), 0.0, deviation)  # a single value has no standard deviation
        measures = {
            "from_first_day": level - first_day,
            "from_usual": level - usual,
            "anomaly": (level - usual) / np.sqrt(deviation * deviation + errors * errors),
        }
        return {f"{vital}_{name}": rows[number] for name, rows in measures.items() for number, vital in enumerate(vitals)}

    features = []
    for vital in vitals:
        unit, name = SIGNALS[vital].unit, vital.replace("_", " ")
        features += [
            Feature(f"{vital}_from_first_day", vital, unit, f"{name}: level of the last 6 h minus the mean of the first day"),
            Feature(f"{vital}_from_usual", vital, unit, f"{name}: level of the last 6 h minus the mean so far"),
            Feature(f"{vital}_anomaly", vital, "1", f"{name}: distance from the mean so far in standard deviations"),
        ]
    needs = (
        declare_statistics(vitals, 6, "ema")
        + declare_statistics(vitals, "so_far", "mean", "std")
        + declare_statistics(vitals, "first_day", "mean")
    )
    return DerivedFeatures(tuple(features), compute, needs)


def declare_organ_measures(hours: int) -> DerivedFeatures:
    """Declare clinical measures that combine several signals of one organ.

    Args:
        hours: Length of the window.
    """

    def compute(columns: Columns) -> Columns:
        def window(signal: str, statistic: str = "last") -> Float64:
            return columns[f"{signal}_{statistic}_{hours}h"]

        urine, weight, height = (
            window("urine_output", "mean") * window("urine_output", "count"),
            window("body_weight"),
            window("body_height"),
        )
        measures = {
            "urine_total": urine,
            "urine_per_kg": urine / weight,
            "body_mass_index": weight / (height / 100) ** 2,
            "pao2_fio2": window("pao2") / (window("fio2") / 100),
            "pao2_fio2_worst": window("pao2", "min") / (window("fio2", "max") / 100),
            "bun_creatinine": window("bun") / window("creatinine"),
            "anion_gap": window("sodium") - window("chloride") - window("bicarbonate"),
            "shock_index_worst": window("heart_rate", "max") / window("systolic_bp", "min"),
            "consciousness_regained": window("glasgow_coma_scale") - window("glasgow_coma_scale", "min"),
        }
        return {f"{name}_{hours}h": values for name, values in measures.items()}

    period = f"in the last {hours} h"
    descriptions = (
        ("urine_total", "urine_output", "mL", f"urine collected {period}", ""),
        ("urine_per_kg", "urine_output", "mL/kg", f"urine collected {period}, per body weight", ""),
        ("body_mass_index", "body_weight", "kg/m2", "body mass index", "Quetelet 1832"),
        ("pao2_fio2", "pao2", "mm[Hg]", "PaO2 / FiO2, latest values", "ARDS Task Force 2012"),
        ("pao2_fio2_worst", "pao2", "mm[Hg]", f"lowest PaO2 / highest FiO2 {period}", "ARDS Task Force 2012"),
        ("bun_creatinine", "bun", "1", "urea nitrogen / creatinine, latest values", ""),
        ("anion_gap", "bicarbonate", "mmol/L", "sodium - chloride - bicarbonate, latest values", "Emmett 1977"),
        (
            "shock_index_worst",
            "shock_index",
            "1",
            f"highest heart rate / lowest systolic pressure {period}",
            "Allgower 1967",
        ),
        (
            "consciousness_regained",
            "glasgow_coma_scale",
            "{score}",
            f"latest Glasgow Coma Scale minus the lowest {period}",
            "",
        ),
    )
    return DerivedFeatures(
        tuple(
            Feature(f"{name}_{hours}h", signal, unit, text, source=source) for name, signal, unit, text, source in descriptions
        ),
        compute,
        (
            *declare_statistics(["urine_output"], hours, "count", "mean"),
            *declare_statistics(
                ("body_weight", "body_height", "pao2", "fio2", "bun", "creatinine", "sodium", "chloride", "bicarbonate"),
                hours,
                "last",
            ),
            *declare_statistics(["pao2", "systolic_bp"], hours, "min"),
            *declare_statistics(["fio2", "heart_rate"], hours, "max"),
            *declare_statistics(["glasgow_coma_scale"], hours, "last", "min"),
        ),
    )


PATIENT: Final = DerivedFeatures(
    (
        Feature("age", "age", "a", "age in years"),
        Feature("sex", "sex", "1", "sex: 0 female, 1 male"),
        Feature("hours_in_unit", "time_in_care", "h", "hours since admission to the unit", "workflow"),
        Feature("hours_in_hospital_before", "time_in_care", "h", "hours in hospital before admission to the unit", "workflow"),
    ),
    lambda columns: columns,
)

PREGNANCY: Final = DerivedFeatures(
    (Feature("pregnant", "pregnant", "1", "1 if the patient is known to be pregnant, 0 if known not to be"),),
    lambda columns: columns,
)
