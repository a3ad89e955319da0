"""The catalogue: every feature is declared once, consistently, with a correct description."""

import hashlib
import itertools

import pytest

from vigil.features.catalogue import (
    FEATURES,
    SAFETY_NET,
    SERVICES,
    STANDARD,
    VIEWS,
    group_by_view,
    list_features,
    list_features_reflecting,
    service_views,
    views_to_compute,
)
from vigil.features.signals import SIGNALS
from vigil.features.windows import WindowFeature
from vigil.models.tasks import TASKS


def test_feature_names_are_unique_and_every_feature_has_a_description():
    assert len(FEATURES) == sum(len(view) for view in VIEWS.values())
    for feature in FEATURES.values():
        assert feature.name == feature.name.lower()
        assert feature.unit
        assert feature.description
        assert feature.reflects in {"physiology", "workflow"}


def test_features_that_count_or_time_measurements_reflect_workflow():
    for feature in FEATURES.values():
        if feature.statistic in {"count", "age"}:
            assert feature.reflects == "workflow", feature.name
    assert {"hours_in_unit", "vitals_known", "news2_highest", "heart_rate_age_so_far"} <= set(
        list_features_reflecting("workflow")
    )
    assert {"age", "heart_rate_mean_24h", "news2", "lactate_last_72h", "spo2_anomaly"} <= set(
        list_features_reflecting("physiology")
    )
    assert set(list_features_reflecting("workflow")) | set(list_features_reflecting("physiology")) == set(FEATURES)


def test_services_name_features_in_the_order_of_the_views():
    for service, names in SERVICES.items():
        assert list(names) == list(itertools.chain.from_iterable(service_views(service).values())), service


@pytest.mark.parametrize(
    ("service", "digest"),
    [
        ("deterioration_v1", "5b11574d675d6791"),
        ("deterioration_v2", "8b1777d7c5de672c"),
        ("vital_signs_v1", "ccd4eabe77d78eb1"),
        ("vital_signs_v2", "238b9844cd2df405"),
        ("mortality_v1", "89a0559fc0fc2fde"),
        ("mortality_v2", "3427c82bb6ef6595"),
        ("pressure_v1", "0a6b411a1d44442b"),
        ("deterioration_v3", "3184cd16021d9944"),
        ("vital_signs_v3", "0a5bbe2f3e11a306"),
        ("mortality_v3", "6a08c9e921f01d4b"),
        ("pressure_v2", "7026b42dd5e2a150"),
    ],
)
def test_stored_service_never_changes(service, digest):
    """If this test fails, move the new feature to a new view, and store a new version of the service that reads it."""
    assert hashlib.sha256(",".join(SERVICES[service]).encode()).hexdigest()[:16] == digest


def test_services_for_comparison_follow_the_standard_views():
    assert set(VIEWS) - set(STANDARD) == {"stay", "organs", "sustained_levels", "beyond_range", "pressure"}
    assert SERVICES["everything"] == list_features(*STANDARD)
    assert {*SERVICES["physiology"], *SERVICES["workflow"]} == set(SERVICES["everything"])
    assert list(VIEWS)[: len(STANDARD)] == list(STANDARD)


def test_mortality_service_covers_every_signal_over_long_windows_only():
    service = set(SERVICES["mortality_v1"])
    statistics = ("count", "mean", "min", "max", "std", "median", "slope", "last", "age", "change")
    expected = {f"{signal}_{statistic}_72h" for signal in SIGNALS for statistic in statistics}
    expected |= {f"{signal}_{statistic}_24h" for signal in SIGNALS for statistic in ("mean", "min", "max")}
    assert len(expected) == 13 * len(SIGNALS)
    scores = {"mews", "qsofa", "sirs", "sofa", "spo2_fio2", "pulse_pressure", *list_features("scores")}
    assert service == expected | scores | {"age", "sex", "hours_in_unit"}


def test_computed_for_adds_the_views_that_a_service_reads_to_the_standard_views():
    assert views_to_compute("deterioration_v1") == STANDARD
    assert views_to_compute("mortality_v2") == (*STANDARD, "stay", "organs")
    assert views_to_compute("pressure_v1") == views_to_compute("pressure_v2") == (*STANDARD, "pressure")


def test_views_on_demand_are_read_completely():
    """A feature that no service reads would be stored in vain, and vigil features --verify could not compare it."""
    for service in SERVICES:
        for view, names in service_views(service).items():
            assert view in STANDARD or names == list_features(view), service


def test_views_of_groups_features_in_catalogue_order():
    names = ["sodium_mean_72h", "sex", "heart_rate_mean_1h", "age"]
    assert group_by_view(names) == {
        "vital_signs": ("heart_rate_mean_1h",),
        "patient": ("age", "sex"),
        "stay": ("sodium_mean_72h",),
    }
    assert list(group_by_view(names)) == ["vital_signs", "patient", "stay"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pulse", "mean", 1), "unknown signal 'pulse'; expected one of heart_rate"),
        (("heart_rate", "average", 1), "unknown statistic 'average'; expected one of count, mean"),
        (("heart_rate", "mean", 0), "window of 0 h; expected at least 1"),
        (("heart_rate", "mean", "ever"), "unknown window 'ever'; expected hours, so_far or first_day"),
        (("heart_rate", "slope", "so_far"), "no slope over so_far; expected a window in hours"),
        (("heart_rate", "std", "first_day"), "no std over first_day; expected a window in hours"),
        (("heart_rate", "hours_above", 24), "hours_above needs a threshold"),
        (("heart_rate", "mean", 24, 90), "mean takes no threshold"),
        (("heart_rate", "hours_above", 24, 90.005), "threshold 90.005 lies between two steps of heart_rate"),
    ],
)
def test_window_feature_error_says_what_is_expected(arguments, message):
    with pytest.raises(ValueError, match=message):
        WindowFeature(*arguments)


def test_window_feature_derives_name_unit_and_description():
    feature = WindowFeature("heart_rate", "slope", 6).feature
    assert (feature.name, feature.unit) == ("heart_rate_slope_6h", "/min/h")
    assert feature.description == "heart rate: least-squares slope per hour in the last 6 h"
    assert WindowFeature("body_temperature", "hours_above", 24, 38.3).name == "body_temperature_hours_above_38p3_24h"
    assert WindowFeature("spo2", "mean", "so_far").feature.description == "spo2: mean so far"


def test_feature_service_of_every_task_contains_the_features_of_the_safety_net():
    for task in TASKS.values():
        assert {*list_features(SAFETY_NET), "age", *list_features("scores")} <= set(SERVICES[task.feature_service]), task.name
