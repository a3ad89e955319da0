"""Every feature, declared once, in views (what is computed and stored together) and services (what a model asks for)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from features.scores import NEWS2_BANDS
from features.signals import names
from features.windows import WindowFeature, over


@dataclass(frozen=True, slots=True)
class Feature:
    """What a reader needs to know of a feature.

    Attributes:
        name: column name.
        signal: the signal, score or characteristic it speaks of; explanations are grouped by it.
        unit: UCUM unit.
        description: one line for catalogues, plots and reports.
    """

    name: str
    signal: str
    unit: str
    description: str


INDEX_STEP: Final = timedelta(hours=1)  # between index times; older features are not current
JOIN_KEY: Final = "patient_id"  # of the Feast entity: what the rest of the chain calls subject_id

VITALS: Final = names("vital")
SUPPORT: Final = names("support")
LABORATORY: Final = names("laboratory")

# How long a score may carry a vital forward: a ward round is missed now and then, a whole day is not.
SCORE_CARRY_HOURS: Final = 24

WINDOWS: Final[Mapping[str, tuple[WindowFeature, ...]]] = {
    "vital_signs": (
        *over(VITALS, 1, "count", "mean"),
        *over(VITALS, 6, "count", "mean", "min", "max", "std", "slope", "change"),
        *over(VITALS, 24, "count", "mean", "min", "max", "std", "slope", "change", "last", "age"),
    ),
    "support": over(SUPPORT, SCORE_CARRY_HOURS, "count", "mean", "last", "age"),
    # Blood is drawn once or twice a day: three days hold the last few results.
    "laboratory": over(LABORATORY, 72, "count", "last", "age", "change"),
}

SCORES: Final = (
    Feature("news2", "news2", "{score}", "NEWS2, a missing part counting 0"),
    Feature("news2_highest", "news2", "{score}", "highest NEWS2 possible, a missing part counting its maximum"),
    *(Feature(f"news2_{vital}", vital, "{score}", f"NEWS2 points for {vital.replace('_', ' ')}") for vital in NEWS2_BANDS),
    Feature("shock_index", "shock_index", "1", "heart rate / systolic pressure"),
    Feature("vitals_known", "measuring", "{count}", f"vital signs measured in the last {SCORE_CARRY_HOURS} h"),
    Feature("hours_since_reading", "measuring", "h", "hours since the latest vital sign of any kind"),
)

PATIENT: Final = (
    Feature("age", "age", "a", "age in years"),
    Feature("sex", "sex", "1", "sex: 0 female, 1 male"),
    Feature("hours_in_unit", "time_in_care", "h", "hours since admission to the unit"),
    Feature("hours_in_hospital_before", "time_in_care", "h", "hours in hospital before admission to the unit"),
)

VIEWS: Final[Mapping[str, tuple[Feature, ...]]] = {
    **{view: tuple(Feature(w.name, w.signal, w.unit, w.description) for w in ws) for view, ws in WINDOWS.items()},
    "scores": SCORES,
    "patient": PATIENT,
}

# Versioned: a service never changes once a model was trained on it; a new set of features is a new version.
SERVICES: Final[Mapping[str, tuple[str, ...]]] = {
    "deterioration_v1": ("vital_signs", "support", "laboratory", "scores", "patient"),
    "vital_signs_v1": ("vital_signs", "support", "scores", "patient"),
}

FEATURES: Final[Mapping[str, Feature]] = {feature.name: feature for view in VIEWS.values() for feature in view}


def service_features(service: str) -> tuple[str, ...]:
    """Names of the features of a service, in order.

    Raises:
        KeyError: no such service.
    """
    return tuple(feature.name for view in SERVICES[service] for feature in VIEWS[view])
