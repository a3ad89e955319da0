"""Withdrawal: a withdrawn version is marked as such until it is reinstated."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from vigil.models.registry import CHALLENGER, CHAMPION, NoModelError, Registry, Withdrawal

NAME = "deterioration"
AT = datetime(2026, 2, 1, 14, tzinfo=timezone(timedelta(hours=2)))
WHY = "the alarm certificate no longer holds: 0.31 of 0.5 alarms are true"


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """Two versions without files, which are never loaded; the first is champion."""
    registry = Registry(tmp_path_factory.mktemp("registry"))
    registry.client.create_registered_model(NAME)
    for alias in (CHAMPION, CHALLENGER):
        version = registry.client.create_model_version(NAME, source=registry.home.as_uri()).version
        registry.client.set_registered_model_alias(NAME, alias, version)
    return registry


def test_registry_withdraws_and_reinstates_a_version(registry):
    assert registry.version_and_withdrawal(NAME) == ("1", False)
    assert registry.withdrawal(NAME, "1") is None
    registry.withdraw(NAME, "1", WHY, AT)
    assert Registry(registry.home).version_and_withdrawal(NAME) == ("1", True)
    assert registry.withdrawal(NAME, "1") == Withdrawal(AT.astimezone(UTC), WHY)
    assert registry.version_and_withdrawal(NAME, CHALLENGER) == ("2", False)  # other versions are not withdrawn
    registry.withdraw(NAME, "1", "again", AT + timedelta(days=1))
    assert registry.withdrawal(NAME, "1").because == WHY  # the first stands
    registry.reinstate(NAME, "1")
    assert registry.version_and_withdrawal(NAME) == ("1", False)
    registry.reinstate(NAME, "1")  # nothing to do


def test_withdrawal_is_of_a_version_and_not_of_the_next_champion(registry):
    registry.withdraw(NAME, "1", WHY, AT)
    registry.promote(NAME, "2", {})
    assert registry.version_and_withdrawal(NAME) == ("2", False)
    registry.roll_back(NAME, {})
    assert registry.version_and_withdrawal(NAME) == ("1", True)  # only a reinstatement ends it
    registry.reinstate(NAME, "1")


def test_withdrawal_of_an_unknown_version_is_an_error(registry):
    for change in (lambda: registry.withdraw(NAME, "9", WHY, AT), lambda: registry.reinstate(NAME, "9")):
        with pytest.raises(NoModelError, match="no version 9 of model 'deterioration'"):
            change()
