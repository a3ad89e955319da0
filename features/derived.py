"""Features made of other features: scores, ratios, the patient's own baseline, and how closely somebody is watched."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features import scores
from features.signals import SIGNALS
from features.windows import CONTINUOUS_READINGS, Feature, WindowFeature, over

Float64 = NDArray[np.float64]
Columns = Mapping[str, Float64]

# How long a score may carry a vital forward: a ward round is missed now and then, a whole day is not. Blood is drawn once or
# twice a day, and its result stands until the next.
SCORE_CARRY_HOURS: Final = 24
LABORATORY_CARRY_HOURS: Final = 72

# What a single reading of a device may be wrong by; where the patient varies less, deviations are counted in these.
# Heart rate: ANSI/AAMI EC13 and IEC 60601-2-27 (5 /min or 10 %). Pressure: ISO 81060-2 (standard deviation of the error 8).
# Temperature: ISO 80601-2-56 (0.3). Glucose: ISO 15197:2013 (15 mg/dL or 15 %). SpO2 and respiratory rate: what monitors
# commonly claim (ISO 80601-2-61 allows SpO2 twice as much). That these limits are the least meaningful deviation is our choice.
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
class Derived:
    """Some features, and the one function that makes them.

    Attributes:
        features: what is made.
        compute: from arrays of one shape by name (those of ``needs``, and the patient's ``age``, ``sex``, ``pregnant``,
            ``hours_in_unit`` and ``hours_in_hospital_before``) to at least the arrays of ``features``.
        needs: window features and derived ones that it reads; they need not be features of their own.
    """

    features: tuple[Feature, ...]
    compute: Callable[[Columns], Columns]
    needs: tuple["WindowFeature | Derived", ...] = ()


def latest(*signals: str, hours: int = SCORE_CARRY_HOURS) -> tuple[WindowFeature, ...]:
    """The latest reading of each signal, as long as it may be carried forward."""
    return over(signals, hours, "last")


def _last(columns: Columns, signals: Iterable[str], hours: int = SCORE_CARRY_HOURS) -> dict[str, Float64]:
    return {signal: columns[f"{signal}_last_{hours}h"] for signal in signals}


def charted(name: str, title: str, chart: scores.Chart, source: str, *, parts: bool = False) -> Derived:
    """A score whose parts are each the latest reading of one signal."""
    features = [
        Feature(name, name, "{score}", f"{title}, a missing part counting 0", source=source),
        Feature(
            f"{name}_highest",
            name,
            "{score}",
            f"highest {title} possible, a missing part counting its maximum",
            "workflow",
            source=source,
        ),
    ]
    if parts:
        features += [
            Feature(f"{name}_{s}", s, "{score}", f"{title} points for {s.replace('_', ' ')}", source=source) for s in chart
        ]
    return Derived(tuple(features), lambda columns: scores.score(name, chart, _last(columns, chart)), latest(*chart))


# What the safety net looks at: signals that monitors send continuously, and what nurses chart.
_CONTINUOUS: Final = ("respiratory_rate", "spo2", "systolic_bp", "heart_rate", "body_temperature")
_CHARTED: Final = ("on_oxygen", "consciousness")


def _sustained_news2(columns: Columns) -> Columns:
    levels = {signal: columns[f"{signal}_sustained_{SCORE_CARRY_HOURS}h"] for signal in _CONTINUOUS}
    found = scores.score("news2_sustained", scores.NEWS2_BANDS, levels | _last(columns, _CHARTED))
    components = [found[f"news2_sustained_{signal}"] for signal in scores.NEWS2_BANDS]
    continuous = {signal: columns[f"{signal}_recent_{SCORE_CARRY_HOURS}h"] >= CONTINUOUS_READINGS for signal in _CONTINUOUS}
    spot = [
        np.where(np.isnan(points) | continuous.get(signal, np.False_), 0.0, points)
        for signal, points in zip(scores.NEWS2_BANDS, components, strict=True)
    ]
    return found | {
        "news2_sustained_worst": np.fmax.reduce(components, axis=0),
        "news2_sustained_spot": np.sum(spot, axis=0),
    }


SUSTAINED_NEWS2: Final = Derived(
    (
        Feature(
            "news2_sustained",
            "news2",
            "{score}",
            "NEWS2 of sustained values, a missing component counting 0: what the safety net goes by",
            source="RCP 2017; Makivirta 1991",
        ),
        Feature(
            "news2_sustained_worst",
            "news2",
            "{score}",
            "most NEWS2 points of one component, of sustained values; missing where no component is known",
            source="RCP 2017; Makivirta 1991",
        ),
        Feature(
            "news2_sustained_spot",
            "news2",
            "{score}",
            "of these NEWS2 points, those of signals that do not come continuously",
            source="RCP 2017",
        ),
    ),
    _sustained_news2,
    over(_CONTINUOUS, SCORE_CARRY_HOURS, "sustained", "recent") + latest(*_CHARTED),
)


def _sirs(columns: Columns) -> Columns:
    vitals = _last(columns, ("body_temperature", "heart_rate", "respiratory_rate"))
    return scores.sirs(vitals | _last(columns, ("paco2", "wbc"), LABORATORY_CARRY_HOURS))


SIRS: Final = Derived(
    (
        Feature("sirs", "sirs", "{score}", "SIRS criteria met, a missing one counting as not met", source="Bone 1992"),
        Feature("sirs_highest", "sirs", "{score}", "most SIRS criteria possible", "workflow", source="Bone 1992"),
    ),
    _sirs,
    latest("body_temperature", "heart_rate", "respiratory_rate") + latest("paco2", "wbc", hours=LABORATORY_CARRY_HOURS),
)


def _shock_index(columns: Columns) -> Columns:
    last = _last(columns, ("heart_rate", "systolic_bp"))
    return {"shock_index": scores.shock_index(last["heart_rate"], last["systolic_bp"])}


SHOCK_INDEX: Final = Derived(
    (Feature("shock_index", "shock_index", "1", "heart rate / systolic pressure", source="Allgower 1967"),),
    _shock_index,
    latest("heart_rate", "systolic_bp"),
)


def _ratios(columns: Columns) -> Columns:
    last = _last(columns, ("systolic_bp", "diastolic_bp", "spo2", "fio2", "on_oxygen"))
    newer_fio2 = columns[f"fio2_age_{SCORE_CARRY_HOURS}h"] < columns[f"on_oxygen_age_{SCORE_CARRY_HOURS}h"]
    on_oxygen = np.where(newer_fio2, np.nan, last["on_oxygen"])
    return {
        "pulse_pressure": last["systolic_bp"] - last["diastolic_bp"],
        "spo2_fio2": scores.spo2_fio2(last["spo2"], last["fio2"], on_oxygen),
    }


RATIOS: Final = Derived(
    (
        Feature("pulse_pressure", "pulse_pressure", "mm[Hg]", "systolic minus diastolic pressure"),
        Feature("spo2_fio2", "spo2_fio2", "1", "SpO2 / FiO2 (that of room air without oxygen)", source="Pandharipande 2009"),
    ),
    _ratios,
    latest("systolic_bp", "diastolic_bp", "spo2", "fio2", "on_oxygen") + over(("fio2", "on_oxygen"), SCORE_CARRY_HOURS, "age"),
)


def _sofa(columns: Columns) -> Columns:
    ratio = np.where(columns[f"spo2_last_{SCORE_CARRY_HOURS}h"] <= scores.SPO2_ON_THE_SLOPE, columns["spo2_fio2"], np.nan)
    blood = _last(columns, ("platelets", "bilirubin_total", "creatinine"), LABORATORY_CARRY_HOURS)
    pressure = {"mean_bp": columns[f"mean_bp_min_{SCORE_CARRY_HOURS}h"]}
    return scores.score("sofa", scores.SOFA_BANDS, {"spo2_fio2": ratio} | blood | pressure)


SOFA: Final = Derived(
    (
        Feature(
            "sofa",
            "sofa",
            "{score}",
            "SOFA: points of five parts, at most 15 of 24, a missing part counting 0",
            source="Vincent 1996",
        ),
        Feature(
            "sofa_highest",
            "sofa",
            "{score}",
            "SOFA: the same, a missing part counting its maximum",
            "workflow",
            source="Vincent 1996",
        ),
        *(
            Feature(f"sofa_{part}", part, "{score}", f"SOFA points for {part.replace('_', ' ')}", source="Vincent 1996")
            for part in scores.SOFA_BANDS
        ),
    ),
    _sofa,
    (
        RATIOS,
        *latest("spo2"),
        *latest("platelets", "bilirubin_total", "creatinine", hours=LABORATORY_CARRY_HOURS),
        *over(["mean_bp"], SCORE_CARRY_HOURS, "min"),
    ),
)


def watching(vitals: tuple[str, ...]) -> Derived:
    """How closely the patient is watched."""

    def compute(columns: Columns) -> Columns:
        ages = np.stack([columns[f"{vital}_age_{SCORE_CARRY_HOURS}h"] for vital in vitals])
        return {
            "vitals_known": (~np.isnan(ages)).sum(axis=0).astype(np.float64),
            "hours_since_reading": np.fmin.reduce(ages, axis=0),
        }

    return Derived(
        (
            Feature(
                "vitals_known", "measuring", "{count}", f"vital signs measured in the last {SCORE_CARRY_HOURS} h", "workflow"
            ),
            Feature(
                "hours_since_reading",
                "measuring",
                "h",
                f"hours since the latest vital sign of any kind, if in the last {SCORE_CARRY_HOURS} h",
                "workflow",
            ),
        ),
        compute,
        over(vitals, SCORE_CARRY_HOURS, "age"),
    )


def baseline(vitals: tuple[str, ...]) -> Derived:
    """How far each vital sign is from the patient's own first day and own usual.

    The present level is the exponential average of the last six hours; the usual is the mean of everything so far. The anomaly
    counts the distance from the usual in standard deviations, those of the patient and of the measurement together.
    """
    errors = np.array([MEASUREMENT_ERROR[vital] for vital in vitals])[:, None]

    def compute(columns: Columns) -> Columns:
        now, usual, first_day, varies = (
            np.stack([columns[f"{vital}_{what}"] for vital in vitals])
            for what in ("ema_6h", "mean_so_far", "mean_first_day", "std_so_far")
        )
        varies = np.where(np.isnan(varies), 0.0, varies)  # one reading does not vary
        found = {
            "from_first_day": now - first_day,
            "from_usual": now - usual,
            "anomaly": (now - usual) / np.sqrt(varies * varies + errors * errors),
        }
        return {f"{vital}_{what}": rows[number] for what, rows in found.items() for number, vital in enumerate(vitals)}

    features = []
    for vital in vitals:
        unit, name = SIGNALS[vital].unit, vital.replace("_", " ")
        features += [
            Feature(f"{vital}_from_first_day", vital, unit, f"{name}: level of the last 6 h minus the mean of the first day"),
            Feature(f"{vital}_from_usual", vital, unit, f"{name}: level of the last 6 h minus the mean so far"),
            Feature(f"{vital}_anomaly", vital, "1", f"{name}: distance from the mean so far in standard deviations"),
        ]
    needs = over(vitals, 6, "ema") + over(vitals, "so_far", "mean", "std") + over(vitals, "first_day", "mean")
    return Derived(tuple(features), compute, needs)


def organs(hours: int) -> Derived:
    """What clinicians make of several measurements of one organ, over so many hours."""

    def compute(columns: Columns) -> Columns:
        def window(signal: str, statistic: str = "last") -> Float64:
            return columns[f"{signal}_{statistic}_{hours}h"]

        urine, weight, height = (
            window("urine_output", "mean") * window("urine_output", "count"),
            window("body_weight"),
            window("body_height"),
        )
        found = {
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
        return {f"{name}_{hours}h": values for name, values in found.items()}

    over_hours = f"in the last {hours} h"
    made = (
        ("urine_total", "urine_output", "mL", f"urine collected {over_hours}", ""),
        ("urine_per_kg", "urine_output", "mL/kg", f"urine collected {over_hours}, for the body weight", ""),
        ("body_mass_index", "body_weight", "kg/m2", "body mass index", "Quetelet 1832"),
        ("pao2_fio2", "pao2", "mm[Hg]", "PaO2 / FiO2, the latest of each", "ARDS Task Force 2012"),
        ("pao2_fio2_worst", "pao2", "mm[Hg]", f"lowest PaO2 / highest FiO2 {over_hours}", "ARDS Task Force 2012"),
        ("bun_creatinine", "bun", "1", "urea nitrogen / creatinine, the latest of each", ""),
        ("anion_gap", "bicarbonate", "mmol/L", "sodium - chloride - bicarbonate, the latest of each", "Emmett 1977"),
        (
            "shock_index_worst",
            "shock_index",
            "1",
            f"highest heart rate / lowest systolic pressure {over_hours}",
            "Allgower 1967",
        ),
        (
            "consciousness_regained",
            "glasgow_coma_scale",
            "{score}",
            f"latest Glasgow Coma Scale minus the lowest {over_hours}",
            "",
        ),
    )
    return Derived(
        tuple(Feature(f"{name}_{hours}h", signal, unit, text, source=source) for name, signal, unit, text, source in made),
        compute,
        (
            *over(["urine_output"], hours, "count", "mean"),
            *over(
                ("body_weight", "body_height", "pao2", "fio2", "bun", "creatinine", "sodium", "chloride", "bicarbonate"),
                hours,
                "last",
            ),
            *over(["pao2", "systolic_bp"], hours, "min"),
            *over(["fio2", "heart_rate"], hours, "max"),
            *over(["glasgow_coma_scale"], hours, "last", "min"),
        ),
    )


PATIENT: Final = Derived(
    (
        Feature("age", "age", "a", "age in years"),
        Feature("sex", "sex", "1", "sex: 0 female, 1 male"),
        Feature("hours_in_unit", "time_in_care", "h", "hours since admission to the unit", "workflow"),
        Feature("hours_in_hospital_before", "time_in_care", "h", "hours in hospital before admission to the unit", "workflow"),
    ),
    lambda columns: columns,
)

PREGNANCY: Final = Derived(
    (Feature("pregnant", "pregnant", "1", "1 where the patient is known to be pregnant, 0 where known not to be"),),
    lambda columns: columns,
)
