"""The words of the pages: complete, with the same placeholders in every language, and none that a template misses."""

import re
import string
import tomllib
from dataclasses import replace
from typing import get_args

import pytest

from vigil.models.alarms.safety_net import Reason
from vigil.models.assessment import Finding
from vigil.models.tasks import TASKS
from vigil.serving.api.alarm_actions import OVERRIDE_REASONS
from vigil.serving.pages.site import ENVIRONMENT
from vigil.serving.pages.words import ENGLISH, FOLDER, LANGUAGES, Words, choose_language


def texts(language):
    found = {}

    def add(prefix, part):
        for name, own in part.items():
            if isinstance(own, dict):
                add(f"{prefix}{name}.", own)
            else:
                found[f"{prefix}{name}"] = own

    add("", tomllib.loads((FOLDER / f"{language}.toml").read_text()))
    return found


def placeholders(text):
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def templates():
    return {name: ENVIRONMENT.loader.get_source(ENVIRONMENT, name)[0] for name in ENVIRONMENT.list_templates()}


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != ENGLISH])
def test_a_language_has_every_text_with_the_same_placeholders(language):
    english, own = texts(ENGLISH), texts(language)
    names = ("signal.", "value.", "outcome.")  # English has them from the tables of signals and tasks
    assert {key for key in own if not key.startswith(names)} == english.keys() - {"site.name", "patient.news2"}
    assert all(placeholders(own[key]) == placeholders(english[key]) for key in own.keys() & english.keys())


def test_templates_use_only_texts_that_there_are():
    english = texts(ENGLISH)
    used = {key for source in templates().values() for key in re.findall(r'\bt\("([a-z0-9_.]+)"', source)}
    families = {key for key in used if key.endswith(".")}
    assert len(used) > 40
    assert {key for key in used - families if key not in english and f"{key}.one" not in english} == set()
    assert all(any(key.startswith(family) for key in english) for family in families)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_finding_and_every_reason_has_its_words(language):
    known = texts(language)
    assert all(f"finding.{name}" in known for name in get_args(Finding))
    assert all(f"reason.{name}" in known for name in get_args(Reason))
    assert all(f"override.{name}" in known for name in OVERRIDE_REASONS)


def test_outcomes_are_in_the_language_and_a_horizon_that_lasts_as_long_as_the_stay_has_no_hours():
    assert Words("de").question(TASKS["sepsis"]) == "Risiko: Sepsis (Sepsis-3) innerhalb von 6 h"
    assert Words("en").question(TASKS["sepsis"]) == "Risk of sepsis (Sepsis-3) within 6 h"
    assert Words("de").question(TASKS["mortality"]) == "Risiko: Tod im Krankenhaus"
    own = replace(TASKS["sepsis"], outcome="a fall")
    assert Words("de").question(own) == "Risiko: a fall innerhalb von 6 h"


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != ENGLISH])
def test_every_outcome_of_a_task_of_vigil_has_its_words(language):
    assert {f"outcome.{task.outcome}" for task in TASKS.values()} == {
        key for key in texts(language) if key.startswith("outcome.")
    }


@pytest.mark.parametrize(
    ("accepted", "language"),
    [("de", "de"), ("de-CH,en;q=0.3", "de"), ("en;q=0.5, de;q=0.9", "de"), ("fr", "en"), ("", "en"), ("de;q=0", "en"),
     ("de;q=x", "en"), ("*", "en"), ("../../etc", "en")],
)  # fmt: skip
def test_the_language_is_the_first_wanted_one_that_there_is(accepted, language):
    assert choose_language(accepted) == language


@pytest.mark.parametrize(
    ("hours", "text"), [(0, "now"), (0.02, "1 min"), (1.98, "119 min"), (2, "2 h"), (47.4, "47 h"), (48, "2 d")]
)
def test_ages_are_short_and_never_younger_than_they_are(hours, text):
    assert Words("en").age(hours) == text


def test_templates_hold_no_style_script_or_other_host():
    for name, source in templates().items():
        assert not re.search(r"<style|style=|<script>|\son[a-z]+=\"|https?://", source), name
