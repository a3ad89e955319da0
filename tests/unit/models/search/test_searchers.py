"""What proposes settings: it begins with the defaults, learns from earlier searches, and ends what is hopeless."""

import importlib.util

import numpy as np
import pytest

from vigil.models.search import searchers
from vigil.models.search.searchers import (
    FLAML_SPACE,
    FlamlSearcher,
    MissingExtraError,
    OptunaSearcher,
    Trial,
    build_flaml_model,
)
from vigil.models.search.space import HOURLY_SPACE, PER_STAY_SPACE, Range, setting_names
from vigil.models.training.candidate_models import tree_model

SPACE = {"num_leaves": Range(4, 64), "subsample": Range(0.4, 1.0, log=False)}
DEFAULTS = {"num_leaves": 16, "subsample": 0.7}


def complete(parameters, *losses):
    return Trial(parameters, list(losses), "complete", 1.0)


def search(searcher, loss, trials):
    """Return the trials of a search in which a complete trial has this loss."""
    done = []
    for _ in range(trials):
        parameters = searcher.ask()
        done.append(complete(parameters, loss(parameters)))
        searcher.tell(done[-1])
    return done


def distance(parameters):
    return abs(np.log(parameters["num_leaves"] / 40)) + abs(parameters["subsample"] - 0.5)


@pytest.mark.parametrize("hourly", [True, False])
def test_spaces_hold_the_defaults_and_name_settings_of_the_model(hourly):
    model, space = tree_model(["age"] * 20, hourly=hourly, seed=1), HOURLY_SPACE if hourly else PER_STAY_SPACE
    assert space.keys() <= setting_names(model).keys()
    assert all(own.low <= model.settings[name] <= own.high for name, own in space.items())


def test_optuna_begins_with_the_defaults_and_finds_better():
    found = search(OptunaSearcher(SPACE, DEFAULTS, [], seed=1), distance, 40)
    assert found[0].parameters == DEFAULTS
    assert all(own.low <= trial.parameters[name] <= own.high for trial in found for name, own in SPACE.items())
    assert min(trial.losses[-1] for trial in found) < 0.3 * distance(DEFAULTS)


def test_optuna_continues_an_earlier_search():
    former = search(OptunaSearcher(SPACE, DEFAULTS, [], seed=1), distance, 40)
    further = search(OptunaSearcher(SPACE, DEFAULTS, former, seed=1), distance, 15)
    afresh = search(OptunaSearcher(SPACE, DEFAULTS, [], seed=1), distance, 15)
    assert DEFAULTS not in [trial.parameters for trial in further]
    assert np.mean([trial.losses[-1] for trial in further]) < 0.5 * np.mean([trial.losses[-1] for trial in afresh])


def test_optuna_ends_a_trial_above_the_median_of_the_same_fold_from_the_second_on():
    former = [complete({"num_leaves": 8 + own, "subsample": 0.7}, 0.5, 0.30 + own / 100, 0.3) for own in range(5)]
    searcher = OptunaSearcher(SPACE, DEFAULTS, former, seed=1)
    trial = Trial(searcher.ask())
    for losses, is_hopeless in (([9.0], False), ([9.0, 0.319], False), ([9.0, 0.319, 0.301], True)):
        trial.losses = losses
        assert searcher.is_hopeless(trial) is is_hopeless
    trial = Trial(searcher.ask(), [0.1])
    assert not searcher.is_hopeless(trial)
    trial.losses = [0.1, 0.321]  # the median of the second fold is 0.32, however easy the first one was
    assert searcher.is_hopeless(trial)
    trial.state = "pruned"
    searcher.tell(trial)
    few = OptunaSearcher(SPACE, DEFAULTS, former[:4], seed=1)
    trial = Trial(few.ask(), [0.33, 0.9])
    assert not few.is_hopeless(trial)  # too few trials to tell


def test_flaml_begins_cheaply_stays_in_its_space_and_finds_better():
    def loss(parameters):
        return abs(np.log(parameters["num_leaves"] / 30)) + abs(np.log(parameters["learning_rate"] / 0.02))

    found = search(FlamlSearcher([], seed=1), loss, 60)
    start = found[0].parameters
    assert (start["n_estimators"], start["num_leaves"], start["min_child_samples"], start["log_max_bin"]) == (4, 4, 20, 8)
    assert (start["learning_rate"], start["colsample_bytree"]) == pytest.approx((0.1, 1.0))
    for trial in found:
        assert all(own.low * 0.999 <= trial.parameters[name] <= own.high * 1.001 for name, own in FLAML_SPACE.items())
    best = min(found, key=lambda trial: trial.losses[-1])
    assert best.losses[-1] < 0.4 * loss(start)
    proposed = FlamlSearcher(found, seed=1).ask()
    assert loss(proposed) < loss(start)  # it continues from the best, not from the start


def test_flaml_model_is_lightgbm_as_flaml_sets_it_with_the_rows_of_the_default():
    default = tree_model(["age", "news2"], hourly=True, seed=7)
    parameters = {**FlamlSearcher([], seed=1).ask(), "log_max_bin": 5, "num_leaves": 9}
    model = build_flaml_model(default, parameters)
    assert (model.settings["max_bin"], model.settings["num_leaves"]) == (31, 9)
    assert (model.features, model.max_negatives, model.seed, model.smallest_leaf) == (["age", "news2"], 30_000, 7, None)


def test_missing_extra_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(searchers, "find_spec", lambda name: None if name == "flaml" else importlib.util.find_spec(name))
    with pytest.raises(
        MissingExtraError, match=r"flaml: not installed; expected the extra search; install it: pip install 'vi"
    ):
        FlamlSearcher([], seed=1)
    OptunaSearcher(SPACE, DEFAULTS, [], seed=1)
