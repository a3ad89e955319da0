"""The words of the pages, in one file a language (``words/*.toml``), so that another language is one more file.

A text that a language lacks is shown in English. Names of signals that a language lacks are those of
:mod:`vigil.features.display_names`.
"""

import functools
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from fastapi import Request
from markupsafe import Markup, escape

from vigil.features.display_names import capitalise, name_signal, show_value, unit_of_signal
from vigil.features.signal import Side
from vigil.features.signals import BOUNDS, SIGNALS, measured_signal
from vigil.models.tasks import RiskTask, is_limited
from vigil.serving.api.alarm_actions import split_reason

FOLDER: Final = Path(__file__).parent / "words"
ENGLISH: Final = "en"
# Read in whole numbers at the bedside, as charts print them.
_WHOLE: Final = frozenset(
    ("respiratory_rate", "spo2", "systolic_bp", "diastolic_bp", "mean_bp", "heart_rate", "glucose", "fio2", "etco2")
)
LANGUAGES: Final = tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


class Words:
    """The words of one language.

    >>> Words("en")("ward.patients", 1), Words("en")("ward.patients", 12), Words("de")("band.high")
    ('1 patient', '12 patients', 'hoch')
    """

    def __init__(self, language: str) -> None:
        """Use a language of :data:`LANGUAGES`."""
        self.language = language
        self._texts = {**_read(ENGLISH), **_read(language)}

    def __call__(self, key: str, number: int | None = None, **values: Any) -> str:
        """Return a text.

        Args:
            key: table and name in the file.
            number: chooses between the forms ``one`` and ``other``, and fills ``{number}``.
            values: fill placeholders. If one of them is markup, such as a time, the text is markup, too.
        """
        if number is not None:
            key = f"{key}.{'one' if number == 1 else 'other'}"
        text = self._texts[key]
        if any(isinstance(value, Markup) for value in values.values()):
            text = escape(text)
        return text.format(number=number, **values)

    def signal(self, name: str) -> str:
        """Return the name of a signal, with a capital first letter; of a bound it says of which signal and side."""
        if name in BOUNDS:
            return self(f"bound.{'below' if '_below_' in name else 'above'}", signal=self.signal(measured_signal(name)))
        return capitalise(self._texts.get(f"signal.{name}") or name_signal(name))

    def contributor(self, signal: str, measured: bool | None) -> str:
        """Return the name of a signal that moved a risk; of one that was not measured it says so.

        >>> Words("en").contributor("mean_bp", False), Words("en").contributor("age", None)
        ('Mean blood pressure (not measured)', 'Age')
        """
        name = self.signal(signal)
        return f"{name} ({self('patient.not_measured')})" if measured is False else name

    def label(self, name: str) -> str:
        """Return the name of a signal with its unit, as at an axis."""
        unit = "" if SIGNALS[name].coded else unit_of_signal(name).replace("per minute", "/min")
        return f"{self.signal(name)}, {unit}" if unit else self.signal(name)

    def quarantine(self, reason: str) -> str:
        """Return why a reading could not be used, in words."""
        return self._texts.get(f"quarantine.{reason}") or reason.replace("_", " ")

    def short(self, name: str) -> str:
        """Return the abbreviation of a signal that charts at the bedside use, or its name."""
        return self._texts.get(f"short.{name}") or self.signal(name)

    def value(self, name: str, value: float) -> str:
        """Return a value of a signal with its unit, or the meaning of a code."""
        shown = round(value) if name in _WHOLE else value
        text = self._texts.get(f"value.{name}.{value:g}") or self._decimal(show_value(name, shown))
        text = text.replace(" per minute", "/min").replace(" points", f" {self('unit.points')}")
        return text.replace(" ", "\N{NO-BREAK SPACE}")

    def bound(self, name: str, side: Side, limit: float) -> str:
        """Return that a signal is at or beyond a limit.

        >>> Words("en").bound("glucose", "below", 40).replace("\N{NO-BREAK SPACE}", " ")
        'at or below 40 mg/dL'
        """
        return self(f"mark.{side}", value=self.value(name, limit))

    def value_parts(self, name: str, value: float) -> tuple[str, str]:
        """Return a value of a signal, and its unit apart; of a code the meaning alone.

        >>> Words("de").value_parts("body_temperature", 38.4), Words("en").value_parts("consciousness", 1.0)[1]
        (('38,4', '°C'), '')
        """
        number, _, unit = self.value(name, value).partition("\N{NO-BREAK SPACE}")
        return (self.value(name, value), "") if SIGNALS[name].coded else (number, unit)

    def percent(self, share: float) -> str:
        """Return a share in percent, with one digit where it is below 10 %.

        >>> Words("en").percent(0.345), Words("de").percent(0.0345)
        ('34 %', '3,5 %')
        """
        return self._decimal(f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.1f} %")

    def number(self, value: float) -> str:
        """Return a number with one digit after the decimal sign."""
        return self._decimal(f"{value:.1f}")

    def count(self, number: int) -> str:
        """Return a large number in groups of three digits.

        >>> Words("en").count(12_345).split("\N{NARROW NO-BREAK SPACE}")
        ['12', '345']
        """
        return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")

    def age(self, hours: float) -> str:
        """Return a length of time in words.

        >>> Words("en").age(0.001), Words("en").age(0.5), Words("en").age(5.2), Words("en").age(50)
        ('now', '30 min', '5 h', '2 d')
        """
        minutes = round(60 * hours)
        if minutes < 1:
            return self("age.now")
        if minutes < 120:
            return self("age.minutes", n=minutes)
        return self("age.hours", n=f"{hours:.0f}") if hours < 48 else self("age.days", n=f"{hours / 24:.0f}")

    def ago(self, hours: float) -> str:
        """Return how long ago something was, in words.

        >>> Words("en").ago(0.001), Words("en").ago(0.5), Words("de").ago(0.001), Words("de").ago(50)
        ('now', '30 min ago', 'jetzt', 'vor 2 d')
        """
        age = self.age(hours)
        return age if age == self("age.now") else self("age.ago", age=age)

    def question(self, task: RiskTask) -> str:
        """Return what a risk is of, and within how many hours; outcomes that an own task names are in its words."""
        outcome = self._texts.get(f"outcome.{task.outcome}") or task.outcome
        if not is_limited(task.horizon):
            return self("view.horizon_of_stay", outcome=outcome)
        return self("view.horizon", outcome=outcome, hours=f"{task.horizon / timedelta(hours=1):g}")

    def finding(self, name: str) -> str:
        """Return what a finding means, in a sentence."""
        return self._texts.get(f"finding.{name}") or name.replace("_", " ")

    def problem(self, problem: str) -> str:
        """Return what keeps the server from being ready, in words.

        >>> Words("de").problem("feature store: StoreError")
        'Der Merkmalsspeicher ist nicht lesbar.'
        """
        name = problem.partition(":")[0].replace(" ", "_")
        return self._texts.get(f"problem.{name}") or self("problem.other")

    def reason(self, name: str) -> str:
        """Return what a rule of NEWS2, a bound or a limit means."""
        return self._texts.get(f"reason.{name}") or name.replace("_", " ")

    def override(self, reason: str | None) -> str:
        """Return why an alarm was overridden; a note of the person who did stays where it is stored."""
        code = None if reason is None else split_reason(reason)[0]
        return "" if code is None else self(f"override.{code}")

    def _decimal(self, text: str) -> str:
        return text.replace(".", self("number.decimal"))


@functools.cache
def words_of(language: str) -> Words:
    """Return the words of a language, read once."""
    return Words(language)


def choose_language(accepted: str) -> str:
    """Return the first language of an ``Accept-Language`` header that there is, or English.

    >>> choose_language("fr, de-AT;q=0.8, en;q=0.5"), choose_language("")
    ('de', 'en')
    """
    wanted: list[tuple[float, int, str]] = []
    for place, part in enumerate(accepted.split(",")[:20]):
        name, _, parameter = part.strip().partition(";")
        quality = parameter.strip().removeprefix("q=")
        try:
            weight = float(quality) if quality else 1.0
        except ValueError:
            continue
        wanted.append((-weight, place, name.strip().lower().partition("-")[0]))
    return next((name for weight, _, name in sorted(wanted) if weight < 0 and name in LANGUAGES), ENGLISH)


def words_for(request: Request) -> Words:
    """Return the words of the language that a browser asks for."""
    return words_of(choose_language(request.headers.get("accept-language", "")))


@functools.cache
def _read(language: str) -> Mapping[str, str]:
    content = tomllib.loads((FOLDER / f"{language}.toml").read_text())
    texts: dict[str, str] = {}

    def add(prefix: str, part: Mapping[str, Any]) -> None:
        for name, own in part.items():
            if isinstance(own, Mapping):
                add(f"{prefix}{name}.", own)
            else:
                texts[f"{prefix}{name}"] = own

    add("", content)
    return texts
