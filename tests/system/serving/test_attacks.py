"""The attacks of an adversarial review, in short; ``make soak SOAK=attacks`` repeats them at full length."""

import pytest

from tests.soak.attacks import ATTACKS, attacked
from tests.soak.home import copy_home


@pytest.fixture(scope="module")
def victim(home, tmp_path_factory):
    with attacked(copy_home(home, tmp_path_factory.mktemp("attacked") / "home")) as server:
        yield server


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_does_not_succeed(victim, name):
    outcome = ATTACKS[name](victim, 0.05)
    assert outcome.held, outcome
