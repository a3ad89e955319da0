"""Every feature, declared once, in views (what is computed and stored together) and services (what a model asks for)."""

import functools
from collections.abc import Iterable, Mapping
from datetime import timedelta
from itertools import chain
from typing import Final

from features.derived import (
    MEASUREMENT_ERROR,
    PATIENT,
    PREGNANCY,
    RATIOS,
    SHOCK_INDEX,
    SIRS,
    SOFA,
    SUSTAINED_NEWS2,
    Derived,
    baseline,
    charted,
    organs,
    watching,
)
from features.errors import VigilError
from features.scores import MEWS_BANDS, NEWS2_BANDS, QSOFA_BANDS
from features.services import stored
from features.signals import SIGNALS, names
from features.windows import Feature, Reflects, WindowFeature, over


class CatalogueError(VigilError):
    """What is declared does not fit what is stored."""


INDEX_STEP: Final = timedelta(hours=1)  # between index times; older features are not current
SAFETY_NET: Final = "safety_net"  # the view that the safety net reads; no model learns from it
JOIN_KEY: Final = "patient_id"  # of the Feast entity: what the rest of the chain calls subject_id

VITALS: Final = names("vital")
SUPPORT: Final = names("support")
# Signals that joined the table after the views of 2019 were fixed; a view never changes under a model.
_LATER: Final = ("sodium", "albumin", "alt", "cholesterol", "pao2", "troponin_t")
LABORATORY: Final = tuple(name for name in names("laboratory") if name not in _LATER)

_NEWS2: Final = "NEWS2, RCP 2017"
_EVERYWHERE: Final[Mapping[str, tuple[WindowFeature | Derived, ...]]] = {
    "vital_signs": (
        *over(VITALS, 1, "count", "mean"),
        *over(VITALS, 6, "count", "mean", "min", "max", "std", "slope", "change"),
        *over(VITALS, 24, "count", "mean", "min", "max", "std", "slope", "change", "last", "age"),
    ),
    "support": over(SUPPORT, 24, "count", "mean", "last", "age"),
    # Blood is drawn once or twice a day: three days hold the last few results.
    "laboratory": over(LABORATORY, 72, "count", "last", "age", "change"),
    "scores": (charted("news2", "NEWS2", NEWS2_BANDS, _NEWS2, parts=True), SHOCK_INDEX, watching(VITALS)),
    "patient": (PATIENT,),
    "dynamics": (
        *over(VITALS, 6, "median", "ema"),
        *over(VITALS, 24, "median", "iqr", "diff_std", "step"),
        *over(LABORATORY, 72, "step"),
        WindowFeature("heart_rate", "hours_above", 24, 110, f"after {_NEWS2}: 2 points"),
        WindowFeature("heart_rate", "hours_below", 24, 51, f"after {_NEWS2}: 1 point"),
        WindowFeature("respiratory_rate", "hours_above", 24, 20, f"after {_NEWS2}: 2 points"),
        WindowFeature("spo2", "hours_below", 24, 92, f"after {_NEWS2}: 3 points"),
        WindowFeature("systolic_bp", "hours_below", 24, 101, f"after {_NEWS2}: 2 points"),
        WindowFeature("mean_bp", "hours_below", 24, 65, "target in septic shock, Surviving Sepsis Campaign 2021"),
        WindowFeature("body_temperature", "hours_above", 24, 38, f"after {_NEWS2}: 1 point"),
        WindowFeature("body_temperature", "hours_below", 24, 36.1, f"after {_NEWS2}: 1 point"),
        WindowFeature("glucose", "hours_above", 24, 180, "time in range, Battelino 2019"),
        WindowFeature("glucose", "hours_below", 24, 70, "time in range, Battelino 2019"),
    ),
    "baseline": (
        *over(VITALS, "so_far", "count", "age"),
        *over(LABORATORY, "so_far", "count", "age"),
        baseline(tuple(vital for vital in VITALS if vital in MEASUREMENT_ERROR)),
    ),
    "other_scores": (
        RATIOS,
        charted("mews", "MEWS", MEWS_BANDS, "Subbe 2001"),
        charted("qsofa", "qSOFA", QSOFA_BANDS, "Singer 2016"),
        SIRS,
        SOFA,
    ),
    SAFETY_NET: (SUSTAINED_NEWS2, PREGNANCY),
}
_DECLARED_EVERYWHERE: Final = frozenset(chain.from_iterable(_EVERYWHERE.values()))

# The first days in a unit as a whole, of all that is measured there: for a question that is asked once.
_WHOLE_STAY: Final = (
    *over(SIGNALS, 72, "count", "mean", "min", "max", "std", "median", "slope", "last", "age", "change"),
    *over(SIGNALS, 24, "mean", "min", "max"),
)
_ON_DEMAND: Final[Mapping[str, tuple[WindowFeature | Derived, ...]]] = {
    "stay": tuple(entry for entry in _WHOLE_STAY if entry not in _DECLARED_EVERYWHERE),
    "organs": (organs(72),),
    # One-minute pressure over its last hour.
    "pressure": over(("systolic_bp", "diastolic_bp", "mean_bp"), 1, "ema", "min", "max", "std", "slope", "last"),
}
DECLARED: Final[Mapping[str, tuple[WindowFeature | Derived, ...]]] = {**_EVERYWHERE, **_ON_DEMAND}
STANDARD: Final = tuple(_EVERYWHERE)  # the views that are computed everywhere; the others only where a model reads them


def _features(entry: WindowFeature | Derived) -> tuple[Feature, ...]:
    return entry.features if isinstance(entry, Derived) else (entry.feature,)


VIEWS: Final[Mapping[str, tuple[Feature, ...]]] = {
    view: tuple(chain.from_iterable(_features(entry) for entry in entries)) for view, entries in DECLARED.items()
}
FEATURES: Final[Mapping[str, Feature]] = {feature.name: feature for view in VIEWS.values() for feature in view}


def of(*views: str) -> tuple[str, ...]:
    """Names of the features of views."""
    return tuple(feature.name for view in views for feature in VIEWS[view])


def reflecting(what: Reflects, *views: str) -> tuple[str, ...]:
    """Names of the features that reflect physiology, or workflow; of views, or of all."""
    return tuple(name for name in of(*views or VIEWS) if FEATURES[name].reflects == what)


# A service that a model was trained on never changes: it is a list of names, kept in ``features/services``, whatever joins the
# views later; a new set of features is a new list (:func:`features.services.keep`). All hold the scores: an answer shows NEWS2
# and the age of its readings. Those that tasks ask for today also hold the safety net; with an older one it goes by the chart's
# NEWS2. The last three follow the standard views, for comparing what there is; they are for no model that is kept.
SERVICES: Final[Mapping[str, tuple[str, ...]]] = {
    **stored(),
    "everything": of(*STANDARD),
    "physiology": reflecting("physiology", *STANDARD),
    "workflow": reflecting("workflow", *STANDARD),
}
if unknown := sorted({name for names_ in SERVICES.values() for name in names_} - FEATURES.keys()):
    raise CatalogueError(f"features {', '.join(unknown)}: of a stored service, and declared no more; declare them again")


def views_of(features: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The views that hold features, and which of them each holds; both in the order of the catalogue."""
    asked = set(features)
    chosen = {view: tuple(feature.name for feature in members if feature.name in asked) for view, members in VIEWS.items()}
    return {view: members for view, members in chosen.items() if members}


@functools.cache
def service_views(service: str) -> Mapping[str, tuple[str, ...]]:
    """The views that a service reads, and what it reads of each."""
    return views_of(SERVICES[service])


def computed_for(service: str) -> tuple[str, ...]:
    """The views that are computed where models read a service: the standard ones, and those it reads besides."""
    return STANDARD + tuple(view for view in service_views(service) if view not in STANDARD)
