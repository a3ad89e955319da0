"""The catalogue: every feature is declared here once.

A *view* holds features that are computed and stored together. A *service* is the list of features that one model reads.
"""

import functools
from collections.abc import Iterable, Mapping
from datetime import timedelta
from itertools import chain
from typing import Final

from vigil.features.added_features import AddedFeatures
from vigil.features.derived import (
    MEASUREMENT_ERROR,
    PATIENT,
    PREGNANCY,
    RATIOS,
    SCORE_CARRY_HOURS,
    SHOCK_INDEX,
    DerivedFeatures,
    declare_monitoring_intensity,
    declare_organ_measures,
    declare_personal_baseline,
)
from vigil.features.derived_scores import CONTINUOUS, SIRS, SOFA, SUSTAINED_NEWS2, declare_charted_score
from vigil.features.errors import VigilError
from vigil.features.installed import load_additions, refuse
from vigil.features.scores import MEWS_BANDS, NEWS2_BANDS, QSOFA_BANDS
from vigil.features.services import load_services
from vigil.features.signal import Kind
from vigil.features.signals import BUILT_IN, signal_names
from vigil.features.windows import Feature, Reflects, WindowFeature, declare_statistics


class CatalogueError(VigilError):
    """The declared features do not match the stored services."""


def _built_in(kind: Kind) -> tuple[str, ...]:
    """Return the signals of a kind without those of installed packages, so that no package changes a view of Vigil."""
    return tuple(name for name in signal_names(kind) if name in BUILT_IN)


INDEX_STEP: Final = timedelta(hours=1)  # distance between index times; older features are stale
SAFETY_NET: Final = "safety_net"  # view that the safety net reads; no model is trained on it
SUSTAINED_LEVELS: Final = "sustained_levels"  # what NEWS2 at the bedside is made of; no model is trained on it

VITALS: Final = _built_in("vital")
SUPPORT: Final = _built_in("support")
# Signals that were added after the views of 2019 were fixed. A view that models read never changes, so it does not get them.
_LATER: Final = ("sodium", "albumin", "alt", "cholesterol", "pao2", "troponin_t")
LABORATORY: Final = tuple(name for name in _built_in("laboratory") if name not in _LATER)

_NEWS2: Final = "NEWS2, RCP 2017"
_ALWAYS: Final[Mapping[str, tuple[WindowFeature | DerivedFeatures, ...]]] = {
    "vital_signs": (
        *declare_statistics(VITALS, 1, "count", "mean"),
        *declare_statistics(VITALS, 6, "count", "mean", "min", "max", "std", "slope", "change"),
        *declare_statistics(VITALS, 24, "count", "mean", "min", "max", "std", "slope", "change", "last", "age"),
    ),
    "support": declare_statistics(SUPPORT, 24, "count", "mean", "last", "age"),
    # Blood is drawn once or twice a day, so three days hold the last few results.
    "laboratory": declare_statistics(LABORATORY, 72, "count", "last", "age", "change"),
    "scores": (
        declare_charted_score("news2", "NEWS2", NEWS2_BANDS, _NEWS2, with_components=True),
        SHOCK_INDEX,
        declare_monitoring_intensity(VITALS),
    ),
    "patient": (PATIENT,),
    "dynamics": (
        *declare_statistics(VITALS, 6, "median", "ema"),
        *declare_statistics(VITALS, 24, "median", "iqr", "diff_std", "step"),
        *declare_statistics(LABORATORY, 72, "step"),
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
        *declare_statistics(VITALS, "so_far", "count", "age"),
        *declare_statistics(LABORATORY, "so_far", "count", "age"),
        declare_personal_baseline(tuple(vital for vital in VITALS if vital in MEASUREMENT_ERROR)),
    ),
    "other_scores": (
        RATIOS,
        declare_charted_score("mews", "MEWS", MEWS_BANDS, "Subbe 2001"),
        declare_charted_score("qsofa", "qSOFA", QSOFA_BANDS, "Singer 2016"),
        SIRS,
        SOFA,
    ),
    SAFETY_NET: (SUSTAINED_NEWS2, PREGNANCY),
}
_ALWAYS_DECLARED: Final = frozenset(chain.from_iterable(_ALWAYS.values()))

# The first days in a unit as a whole, for every signal of Vigil's own. They serve tasks with one prediction for each stay.
_WHOLE_STAY: Final = (
    *declare_statistics(BUILT_IN, 72, "count", "mean", "min", "max", "std", "median", "slope", "last", "age", "change"),
    *declare_statistics(BUILT_IN, 24, "mean", "min", "max"),
)
_ON_DEMAND: Final[Mapping[str, tuple[WindowFeature | DerivedFeatures, ...]]] = {
    "stay": tuple(feature for feature in _WHOLE_STAY if feature not in _ALWAYS_DECLARED),
    "organs": (declare_organ_measures(72),),
    SUSTAINED_LEVELS: declare_statistics(CONTINUOUS, SCORE_CARRY_HOURS, "sustained", "recent"),
    # How often, and how lately, a glucose sensor had no value to give. The limits are not used in arithmetic.
    "beyond_range": declare_statistics(("glucose_below_range", "glucose_above_range"), 24, "count", "age"),
    # Blood pressure measured every minute, over the last hour.
    "pressure": declare_statistics(("systolic_bp", "diastolic_bp", "mean_bp"), 1, "ema", "min", "max", "std", "slope", "last"),
}
_OWN: Final = {**_ALWAYS, **_ON_DEMAND}
ADDED: Final = load_additions("vigil.features", AddedFeatures, taken=_OWN)  # views of installed packages
DECLARED: Final[Mapping[str, tuple[WindowFeature | DerivedFeatures, ...]]] = {
    **_OWN,
    **{view: added.declarations for view, added in ADDED.items()},
}
STANDARD: Final = tuple(_ALWAYS)  # views that are always computed; the others are computed only where a model reads them


def _describe(declaration: WindowFeature | DerivedFeatures) -> tuple[Feature, ...]:
    return declaration.features if isinstance(declaration, DerivedFeatures) else (declaration.feature,)


VIEWS: Final[Mapping[str, tuple[Feature, ...]]] = {
    view: tuple(chain.from_iterable(_describe(declaration) for declaration in declarations))
    for view, declarations in DECLARED.items()
}
FEATURES: Final[Mapping[str, Feature]] = {feature.name: feature for view in VIEWS.values() for feature in view}
for _view in ADDED:
    _others = {feature.name for view, features in VIEWS.items() if view != _view for feature in features}
    if _twice := sorted(_others & {feature.name for feature in VIEWS[_view]}):
        refuse(
            f"view {_view} of an installed package",
            f"features {', '.join(_twice)}: another view has them; expected its own; a service may list those of any view",
        )


def list_features(*views: str) -> tuple[str, ...]:
    """Return the names of all features of the given views.

    >>> list_features("patient", "safety_net")[3:6]
    ('hours_in_hospital_before', 'news2_sustained', 'news2_sustained_worst')
    """
    return tuple(feature.name for view in views for feature in VIEWS[view])


def list_features_reflecting(what: Reflects, *views: str) -> tuple[str, ...]:
    """Return the names of the features that reflect physiology, or workflow.

    Args:
        what: ``physiology`` or ``workflow``.
        views: Views to search. Without any, all views are searched.

    >>> list_features_reflecting("workflow", "patient")
    ('hours_in_unit', 'hours_in_hospital_before')
    """
    return tuple(name for name in list_features(*views or VIEWS) if FEATURES[name].reflects == what)


# A service that a model was trained on never changes, even if its views gain features. So it is stored as a list of names in
# ``features/services``. A new set of features is a new list (:func:`vigil.features.services.store_service`). Every stored
# service holds the scores, because an answer shows NEWS2 and the age of its observations. The services that tasks use today
# also hold the safety net; under an older service the safety net uses the NEWS2 of the view ``scores``. The last three services
# follow the standard views. They are for comparisons; no stored model may use them.
_STORED: Final = load_services()
_COMPARED: Final = {
    "everything": list_features(*STANDARD),
    "physiology": list_features_reflecting("physiology", *STANDARD),
    "workflow": list_features_reflecting("workflow", *STANDARD),
}


def _added_services() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return the services of installed packages: the view that each comes with, and its features.

    Raises:
        PackageError: a name is taken, a feature is unknown, or one of the view ``scores`` is missing.
    """
    services: dict[str, tuple[str, tuple[str, ...]]] = {}
    for view, added in ADDED.items():
        for name, features in load_services(added.services).items() if added.services else ():
            rules = (
                (name in {*_STORED, *_COMPARED, *services}, "is taken; expected another name"),
                (unknown := sorted(set(features) - FEATURES.keys()), f"unknown features {', '.join(unknown)}"),
                (
                    missing := sorted(set(list_features("scores")) - set(features)),
                    f"lacks {', '.join(missing)}, of which an answer shows NEWS2",
                ),
            )
            for is_broken, rule in rules:
                if is_broken:
                    refuse(f"feature service {name} of an installed package (view {view})", rule)
            services[name] = view, features
    return services


ADDED_SERVICES: Final = _added_services()
SERVICES: Final[Mapping[str, tuple[str, ...]]] = {
    **_STORED,
    **{name: features for name, (_, features) in ADDED_SERVICES.items()},
    **_COMPARED,
}
if unknown := sorted({name for service in SERVICES.values() for name in service} - FEATURES.keys()):
    raise CatalogueError(
        f"features {', '.join(unknown)}: listed in a stored service, but no longer declared; declare them again in "
        "features/catalogue.py"
    )


def group_by_view(features: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Group feature names by view. Views and features are in the order of the catalogue, whatever the order of the names.

    >>> group_by_view(["sex", "heart_rate_mean_1h", "age"])
    {'vital_signs': ('heart_rate_mean_1h',), 'patient': ('age', 'sex')}
    """
    names = set(features)
    by_view = {view: tuple(feature.name for feature in members if feature.name in names) for view, members in VIEWS.items()}
    return {view: members for view, members in by_view.items() if members}


@functools.cache
def service_views(service: str) -> Mapping[str, tuple[str, ...]]:
    """Return the views that a service reads, with the features that it reads of each view.

    >>> list(service_views("pressure_v2"))
    ['vital_signs', 'scores', 'patient', 'safety_net', 'pressure']
    """
    return group_by_view(SERVICES[service])


def views_to_compute(service: str) -> tuple[str, ...]:
    """Return the views to compute where models read a service: the standard views and any others that the service reads.

    >>> views_to_compute("mortality_v2")[-3:]
    ('safety_net', 'stay', 'organs')
    """
    return STANDARD + tuple(view for view in service_views(service) if view not in STANDARD)


def views_to_assess(service: str) -> tuple[str, ...]:
    """Return the views to compute where patients are assessed: those of the service, and what NEWS2 at the bedside reads.

    >>> views_to_assess("pressure_v2")[-2:]
    ('support', 'sustained_levels')
    """
    views = tuple(service_views(service))
    return views + tuple(view for view in ("vital_signs", "support", SUSTAINED_LEVELS) if view not in views)
