"""Candidate models know only what their names state."""

import pytest

from vigil.features.catalogue import FEATURES, SERVICES
from vigil.features.signals import SIGNALS
from vigil.models.training.candidate_models import AS_MEASURED, CLOCK, SCORES, candidates


@pytest.mark.parametrize("service", ["deterioration_v2", "vital_signs_v3"])
def test_variants_for_wearables_know_vital_signs_age_and_sex_and_no_more(service):
    chosen = candidates(SERVICES[service], hourly=True, seed=0)["vital_signs"].features
    signals = {FEATURES[name].signal for name in chosen}
    allowed = {name for name, signal in SIGNALS.items() if signal.kind == "vital"} - {"glucose"}
    assert allowed < signals
    assert signals - allowed == {"shock_index", "measuring", "age", "sex"} | ({"pulse_pressure"} & signals)
    assert {"heart_rate_mean_6h", "spo2_min_24h", "age"} <= set(chosen)
    assert not {"news2", "mews", "qsofa", "news2_on_oxygen", "hours_in_unit", "glucose_mean_24h"} & set(chosen)


def test_variants_without_blood_samples_know_no_laboratory_value():
    chosen = candidates(SERVICES["mortality_v2"], hourly=False, seed=0)["vital_signs"].features
    drawn = {name for name, signal in SIGNALS.items() if signal.kind == "laboratory"} | {"glucose"}
    assert not drawn & {FEATURES[name].signal for name in chosen}
    assert {"glasgow_coma_scale_min_72h", "urine_total_72h"} <= set(chosen)
    assert not {"sofa", "sirs", "pao2_fio2_72h", "anion_gap_72h", "bun_creatinine_72h"} & set(chosen)


def test_variants_physiology_and_workflow_divide_the_default_and_the_clock_knows_time_age_and_sex():
    models = candidates(SERVICES["deterioration_v2"], hourly=True, seed=0)
    parts = (set(models["physiology"].features), set(models["workflow"].features))
    assert parts[0].isdisjoint(parts[1])
    assert parts[0] | parts[1] == set(models["all_signals"].features) == set(SERVICES["deterioration_v2"])
    assert models["clock"].features == list(CLOCK)
    assert [models[score].features for score in ("news2", "qsofa", "sirs", "mews")] == [
        ["news2"],
        ["qsofa"],
        ["sirs"],
        ["mews"],
    ]


def test_as_measured_names_the_variants_that_augmentation_teaches_nothing():
    models = candidates(SERVICES["deterioration_v2"], hourly=True, seed=0)
    assert set(models) & AS_MEASURED == {"clock", *SCORES}
    assert all(len(models[name].features) == 1 for name in SCORES)
    assert {"all_signals", "physiology", "workflow", "vital_signs", "logistic"} == set(models) - AS_MEASURED
