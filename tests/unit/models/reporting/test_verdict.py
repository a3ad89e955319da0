"""The first screen of a report: what is said of a model that is better, of one that is not, and of its guarantee."""

import pytest

from vigil.models.reporting.verdict import judge, list_figures


def evaluated(news2=(0.08, 0.02, 0.13), clock=(0.2, 0.15, 0.25), held=None, alarms=True):
    def gain(values):
        return dict(zip(("auroc", "auroc_low", "auroc_high"), values, strict=True))

    interval = {
        f"{name}{end}": 0.5 for name in ("auroc", "auprc", "calibration_slope", "brier", "ece") for end in ("", "_low", "_high")
    }
    frozen = {"event_recall": 0.6, "alarms_per_patient_day": 0.4}
    return {
        "default": "all_signals",
        "models": {"all_signals": interval},
        "gains": {"news2": gain(news2), "clock": gain(clock)},
        "promises": {} if held is None else {"all_signals": {"held_out": {"held": held}}},
        "alarms": {"at_frozen_threshold": {"all_signals": frozen}} if alarms else None,
        "prevalence": 0.02,
    }


def test_a_model_that_is_better_and_keeps_its_guarantee_is_good():
    verdict = judge(evaluated(held=True))
    assert verdict.is_good
    assert verdict.sentences == [
        "It ranks patients better than NEWS2: AUROC +0.080 (+0.020 to +0.130).",
        "It ranks patients better than the clock, which knows the time in care alone: AUROC +0.200 (+0.150 to +0.250).",
        "Its alarm guarantee held on these patients.",
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"news2": (0.02, -0.01, 0.05)},
            "does NOT rank patients better than NEWS2: AUROC +0.020 (-0.010 to +0.050), as far as",
        ),
        ({"clock": (-0.1, -0.2, -0.01)}, "does NOT rank patients better than the clock"),
        ({"held": False}, "alarm guarantee did NOT hold"),
    ],
)
def test_what_is_not_better_is_not_good(change, says):
    verdict = judge(evaluated(**change))
    assert not verdict.is_good
    assert says in " ".join(verdict.sentences)


def test_a_model_without_a_guarantee_says_so_where_alarms_sound():
    assert "It has no alarm guarantee." in judge(evaluated()).sentences
    assert "It has no alarm guarantee." not in judge(evaluated(alarms=False)).sentences


def test_a_model_alone_is_not_called_good():
    verdict = judge(evaluated(held=True) | {"gains": {}})
    assert not verdict.is_good
    assert "so this is no verdict" in verdict.sentences[0]


@pytest.mark.parametrize("alarms", [True, False])
def test_there_are_five_figures(alarms):
    assert len(list_figures(evaluated(alarms=alarms))) == 5
