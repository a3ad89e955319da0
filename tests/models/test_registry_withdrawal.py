"""A version that was withdrawn says so to whoever asks for the champion, until it is reinstated."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from models.registry import CHALLENGER, CHAMPION, NoModelError, Registry, Withdrawal

NAME = "deterioration"
AT = datetime(2026, 2, 1, 14, tzinfo=timezone(timedelta(hours=2)))
WHY = "the alarm certificate no longer holds: 0.31 of 0.5 alarms are true"


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    """Two versions without files, the first champion: nothing of them is loaded here."""
    registry = Registry(tmp_path_factory.mktemp("registry"))
    registry.client.create_registered_model(NAME)
    for alias in (CHAMPION, CHALLENGER):
        version = registry.client.create_model_version(NAME, source=registry.home.as_uri()).version
        registry.client.set_registered_model_alias(NAME, alias, version)
    return registry


def test_withdrawn_and_reinstated(registry):
    assert registry.standing(NAME) == ("1", False)
    assert registry.withdrawal(NAME, "1") is None
    registry.withdraw(NAME, "1", WHY, AT)
    assert Registry(registry.home).standing(NAME) == ("1", True)
    assert registry.withdrawal(NAME, "1") == Withdrawal(AT.astimezone(UTC), WHY)
    assert registry.standing(NAME, CHALLENGER) == ("2", False)  # it is about the version alone
    registry.withdraw(NAME, "1", "again", AT + timedelta(days=1))
    assert registry.withdrawal(NAME, "1").because == WHY  # the first stands
    registry.reinstate(NAME, "1")
    assert registry.standing(NAME) == ("1", False)
    registry.reinstate(NAME, "1")  # as it was


def test_another_champion_is_not_withdrawn(registry):
    registry.withdraw(NAME, "1", WHY, AT)
    registry.promote(NAME, "2", {})
    assert registry.standing(NAME) == ("2", False)
    registry.roll_back(NAME, {})
    assert registry.standing(NAME) == ("1", True)  # nothing but a reinstatement clears it
    registry.reinstate(NAME, "1")


def test_no_such_version_is_said(registry):
    for change in (lambda: registry.withdraw(NAME, "9", WHY, AT), lambda: registry.reinstate(NAME, "9")):
        with pytest.raises(NoModelError, match="no version 9 of model 'deterioration'"):
            change()
