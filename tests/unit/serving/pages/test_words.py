"""The words of the pages: complete, with the same placeholders in every language, and none that a template misses."""

import re
import string
import tomllib
from dataclasses import replace
from typing import get_args

import pytest
from markupsafe import Markup

from tests.support import ROOT
from vigil.features.catalogue import FEATURES
from vigil.features.signals import BOUNDS, BUILT_IN
from vigil.models.alarms.safety_net import Reason
from vigil.models.assessment import Finding
from vigil.models.tasks import TASKS
from vigil.serving.api.alarm_actions import OVERRIDE_REASONS
from vigil.serving.login.local_server import ROLES
from vigil.serving.pages.site import ENVIRONMENT
from vigil.serving.words import ENGLISH, FOLDER, LANGUAGES, Words, choose_language


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


def test_code_uses_only_texts_that_there_are():
    english = texts(ENGLISH)
    folders = [ROOT / "serving" / name for name in ("login", "pages")]
    sources = [path.read_text() for folder in folders for path in folder.rglob("*.py")]
    used = {
        key for source in sources for key in re.findall(r'["\']((?:login|view|patient|site|alarm)\.[a-z0-9_.]+)["\']', source)
    }
    assert {"login.refused", "login.local.text", "view.no_zone", "site.no_scope"} <= used
    files = {key for key in used if key.endswith((".toml", ".html"))}
    assert {key for key in used - files if key not in english and f"{key}.one" not in english} == set()
    assert all(f"login.role.{role}" in english for role in ROLES)


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != ENGLISH])
def test_a_language_has_a_name_for_every_signal_and_whatever_a_risk_is_made_of(language):
    known, signals = texts(language), {*BUILT_IN, *(feature.signal for feature in FEATURES.values())} - BOUNDS.keys()
    assert {name for name in signals if f"signal.{name}" not in known} == set()
    assert {key.removeprefix("signal.") for key in known if key.startswith("signal.")} == signals


def test_names_of_signals_are_those_that_clinicians_use():
    german = Words("de")
    names = ("lactate", "potassium", "ph", "wbc", "urine_output", "mechanical_ventilation", "glucose_below_range")
    assert [german.signal(name) for name in names] == [
        "Laktat", "Kalium", "pH-Wert", "Leukozyten", "Urinausscheidung", "Maschinelle Beatmung", "Glukose unter dem Messbereich"
    ]  # fmt: skip
    assert Words("en").signal("glucose_above_range") == "Glucose above the measuring range"
    assert german.value("glasgow_coma_scale", 14) == "14\N{NO-BREAK SPACE}Punkte"
    assert german.value("mechanical_ventilation", 1) == "ja"


def test_momentary_says_that_the_medians_do_not_reach_an_alarm():
    assert (
        Words("en").finding("momentary")
        == "NEWS2 of 7 or more at the moment, but not in the medians of the last 15 min: no alarm yet"
    )
    assert (
        Words("de").finding("momentary")
        == "NEWS2 momentan 7 oder mehr, im Median der letzten 15 min aber nicht: noch kein Alarm"
    )


def test_markup_in_a_text_stays_markup_and_what_was_sent_does_not_become_it():
    text = Words("en")("ward.silent", source="<b>", time=Markup("<time>9</time>"))
    assert text == "Nothing has come from &lt;b&gt; since <time>9</time>."
    assert isinstance(text, Markup)
    assert Words("en")("ward.silent", source="<b>", time="9") == "Nothing has come from <b> since 9."


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
