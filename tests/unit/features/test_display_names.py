"""Names for people: every signal, unit and feature has one, none holds a code, and no two features share one."""

import re

import pytest

from vigil.features.catalogue import FEATURES
from vigil.features.display_names import label_feature, label_signal, name_feature, name_signal, name_unit, show_value
from vigil.features.signals import STORED

CODE = re.compile(r"[_\[\]{}*]")


def test_every_signal_and_unit_has_a_name_for_people():
    labels = [label_signal(name) for name in STORED]
    assert [label for label in labels if CODE.search(label)] == []
    assert len(set(labels)) == len(labels)
    assert [unit for unit in {feature.unit for feature in FEATURES.values()} if CODE.search(name_unit(unit))] == []


def test_every_feature_has_a_label_of_its_own():
    labels = [label_feature(name) for name in FEATURES]
    assert [label for label in labels if CODE.search(label)] == []
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(
    ("feature", "label"),
    [
        ("heart_rate_max_6h", "Heart rate, highest of the last 6 h, per minute"),
        ("spo2_mean_1h", "SpO2, mean of the last hour, %"),
        ("systolic_bp_slope_6h", "Systolic blood pressure, slope of the last 6 h, mmHg per hour"),
        ("body_temperature_hours_below_36p1_24h", "Body temperature, hours below 36.1 °C in the last 24 h"),
        ("lactate_age_72h", "Lactate, hours since the latest reading of the last 72 h"),
        ("wbc_last_72h", "White cells, latest of the last 72 h, 10³/µL"),
        ("heart_rate_count_so_far", "Heart rate, number of readings so far"),
        ("news2_systolic_bp", "NEWS2 points for systolic blood pressure"),
        ("age", "Age, years"),
    ],
)
def test_labels_of_features_are_words(feature, label):
    assert label_feature(feature) == label


def test_values_are_shown_with_units_and_codes_with_their_meaning():
    assert show_value("systolic_bp", 98.0) == "98 mmHg"
    assert show_value("body_temperature", 38.400001525878906) == "38.4 °C"  # as float32 holds it
    assert (show_value("on_oxygen", 0.0), show_value("sex", 1.0), show_value("consciousness", 1.0)) == (
        "no",
        "male",
        "new confusion",
    )
    assert show_value("news2", 7.0) == "7 points"


def test_names_of_what_is_not_known_here_are_its_words():
    assert (name_signal("my_signal"), name_feature("my_feature")) == ("my signal", "my feature")
