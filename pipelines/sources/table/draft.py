"""Drafting a mapping: what the columns of some files seem to be, by their names, their form and their values."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vigil.pipelines.sources import SourceError
from vigil.pipelines.sources.table.inspection import InspectedTable, inspect, numbers_of, settle_unit
from vigil.pipelines.sources.table.names import find_signal, is_outcome, spellings
from vigil.serving.records.source_settings import require_zone

_TRUE: Final = {"1", "1.0", "true", "yes", "y", "ja", "j", "t"}
_FALSE: Final = {"0", "0.0", "false", "no", "n", "nein", "f"}
_TASKS: Final = (
    ("sepsis", "sepsis"),
    ("aki", "aki"),
    ("died death deceased dead mortality expire verstorben exitus", "mortality"),
)
_FEMALE: Final = {"f", "female", "w", "weiblich", "frau", "woman"}
_MALE: Final = {"m", "male", "männlich", "maennlich", "mann", "man"}
_FACTS: Final = ("patient", "start", "end", "age", "born", "sex", "ward", "site")


@dataclass(frozen=True)
class Draft:
    """A mapping to look at.

    Attributes:
        text: the mapping, as TOML.
        doubts: what a person has to decide or to check, in sentences.
    """

    text: str
    doubts: list[str]


def draft(paths: Sequence[Path], time_zone: str | None = None) -> Draft:
    """Draft the mapping of some files.

    Args:
        paths: CSV or Parquet files of one folder.
        time_zone: of times without one.

    Raises:
        SourceError: a file cannot be read, none holds observations, or there is no such time zone.
    """
    if len({path.resolve().parent for path in paths}) > 1:
        raise SourceError("the files are in several folders; expected one, which --data names later")
    if time_zone is not None:
        try:
            require_zone(time_zone)
        except ValueError as error:
            raise SourceError(f"--time-zone: {error}") from None
    tables = [inspect(path, time_zone) for path in paths]
    observed = [table for table in tables if table.is_observed]
    if not observed:
        seen = "; ".join(f"{table.path.name}: {', '.join(map(str, table.rows.columns[:12]))}" for table in tables)
        raise SourceError(
            f"no file has a time beside vital signs, by the names of its columns ({seen}); write the mapping by hand: "
            "docs/cohorts.md"
        )
    stays = max(tables, key=lambda table: (len(table.facts.keys() & set(_FACTS)), table.key is not None))
    parts = [_observations_text(table) for table in observed]
    parts.append(_stays_text(stays))
    outcome, task = _outcomes_text(tables, stays)
    parts += [outcome] if outcome else []
    name = re.sub(r"[^a-z0-9]+", "-", paths[0].resolve().parent.name.lower()).strip("-") or "cohort"
    head = f'name = "{name[:64]}"\ntask = "{task}"\ndeidentified = false  # true: the patients cannot be identified any more'
    doubts = [doubt for table in tables for doubt in table.doubts]
    used = [table for table in tables if table in observed or table is stays or table.path.name in outcome]
    comments = "\n".join(f"# - {doubt}" for doubt in doubts)
    intro = "# A draft: what the columns seem to be. Check it, then: vigil cohort check --mapping FILE\n# Doubts:\n" + comments
    return Draft("\n\n".join([intro, head, *_settings_text(used), *parts]) + "\n", doubts)


def _observations_text(table: InspectedTable) -> str:
    lines = ["[[observations]]", f"file = {_text(table.path.name)}"]
    if table.key is None:
        table.doubt("no column is called a stay or a patient; name it: stay = ...")
    fields = {"stay": table.key, "time": table.facts["time"]}
    fields |= {name: table.facts[name] for name in ("recorded", "device") if name in table.facts}
    lines += [f"{name} = {_text(column or '?')}" for name, column in fields.items()]
    if offset := table.settings.get("offset"):
        lines.append(f'offset = "{offset}"')
    if not table.is_long:
        signals = ", ".join(f"{signal} = {_text(column)}" for signal, column in table.signals.items())
        return "\n".join([*lines, f"signals = {{ {signals} }}"])
    lines += [f"{name} = {_text(table.facts[name])}" for name in ("signal", "value", "unit") if name in table.facts]
    return "\n".join(lines + _codes_text(table))


def _codes_text(table: InspectedTable) -> list[str]:
    """Return the codes of a long table, and doubt those that are not known."""
    column = table.facts["signal"]
    counts = table.rows[column].dropna().astype(str).value_counts()
    known = {code: find_signal(code) for code in counts.index}
    codes = {code: signal for code, (signal, _) in known.items() if signal}
    unknown = [code for code in counts.index if code not in codes]
    if unknown:
        shown = ", ".join(f"{code} ({counts[code]:,})" for code in unknown[:8])
        table.doubt(f"{column}: {len(unknown)} codes are not known and left out: {shown}{', ...' if unknown[8:] else ''}")
    if "unit" not in table.facts:
        for code, signal in codes.items():
            own = table.rows[column].astype(str) == code
            part = InspectedTable(table.path, table.rows[own], {"decimal_comma": table.settings.get("decimal_comma", False)})
            if numbers := numbers_of(part, table.facts["value"]):
                settle_unit(table, code, signal, known[code][1], numbers)
    if all(code == signal for code, signal in codes.items()) and not unknown:
        return []
    return ["[observations.codes]", *(f"{_text(code)} = {_text(signal)}" for code, signal in codes.items())]


def _stays_text(table: InspectedTable) -> str:
    lines = ["[stays]", f"file = {_text(table.path.name)}", f"stay = {_text(table.key or '?')}"]
    for name in _FACTS:
        column = table.facts.get(name)
        if column is None or column == table.key or (name == "born" and "age" in table.facts):
            continue
        if table.varies(column):
            table.doubt(f"{column} differs within a stay, so it is left out of [stays]")
            continue
        lines.append(f"{name} = {_text(column)}")
        lines += _sex_codes(table, column) if name == "sex" else []
    if "start" not in table.facts:
        table.doubt("no column is called a start of the stay: it starts with its first observation")
    return "\n".join(lines)


def _sex_codes(table: InspectedTable, column: str) -> list[str]:
    texts = table.values(column)
    female = [text for text in texts if text.lower() in _FEMALE]
    male = [text for text in texts if text.lower() in _MALE]
    if others := [text for text in texts if text not in female + male][:8]:
        table.doubt(f"{column}: what {', '.join(others)} mean is not known; write it into sex_codes, or it counts as unknown")
    return [f"sex_codes = {{ female = {json.dumps(female)}, male = {json.dumps(male)} }}"]


def _outcomes_text(tables: Sequence[InspectedTable], stays: InspectedTable) -> tuple[str, str]:
    """Return the table of outcomes and the task; an empty text where no outcome is found."""
    found = [
        (table, column, form)
        for table in sorted(tables, key=lambda table: table is not stays)
        for column in map(str, table.rows.columns)
        if is_outcome(column) and column not in table.facts.values() and (form := _outcome_form(table, column))
    ]
    if not found:
        stays.doubt("no column looks like an outcome; without [outcomes] risks can be made, and no model can be trained")
        return "", "deterioration"
    table, column, form = found[0]
    words = {word for spelling in spellings(column) for word in spelling.split()}
    task = next((name for names, name in _TASKS if words & set(names.split())), "deterioration")
    table.doubt(f"{column} is taken as the outcome ({form}) of the task {task}; say so if it is another")
    if others := [f"{other} of {its.path.name}" for its, other, _ in found[1:]]:
        table.doubt(f"these could be outcomes, too: {', '.join(others)}")
    lines = ["[outcomes]", f"file = {_text(table.path.name)}", f"stay = {_text(table.key or '?')}", f"{form} = {_text(column)}"]
    if form == "label":
        lines.append(f"time = {_text(table.facts['time'])}")
        table.doubt(f"{column}: if it is true some hours before the onset already, write lead_hours = 6, or how many")
    if form != "onset":
        true = [text for text in table.values(column) if text.lower() in _TRUE]
        lines.append(f"true = {json.dumps(true)}")
    if offset := table.settings.get("offset"):
        lines.append(f'offset = "{offset}"')
    return "\n".join(lines), task


def _outcome_form(table: InspectedTable, column: str) -> str | None:
    """Return whether a column holds onsets, labels of rows or events of stays; None: neither."""
    if column in table.times:
        return "onset"
    texts = {text.lower() for text in table.values(column)}
    if table.key is None or not texts or not texts <= _TRUE | _FALSE:
        return None
    if not table.varies(column):
        return "event"
    return "label" if "time" in table.facts else None


def _settings_text(tables: Sequence[InspectedTable]) -> list[str]:
    """Return how the files are written: once, if all are written alike."""
    settings = [{name: value for name, value in table.settings.items() if name not in ("offset", "units")} for table in tables]
    units = [dict(table.settings.get("units", {})) for table in tables]
    stated = {pair for own in units for pair in own.items()}
    if all(own == settings[0] for own in settings) and len(stated) == len({signal for signal, _ in stated}):
        every = {signal: unit for own in units for signal, unit in own.items()}
        return ["\n".join(["[default]", *_lines(settings[0] | {"units": every})])]
    return [
        "\n".join([f"[files.{_text(table.path.name)}]", *_lines(own | {"units": of_file})])
        for table, own, of_file in zip(tables, settings, units, strict=True)
        if own or of_file
    ]


def _lines(settings: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, value in settings.items():
        if isinstance(value, dict):
            if value:
                lines.append(f"{name} = {{ {', '.join(f'{key} = {_text(own)}' for key, own in value.items())} }}")
        else:
            lines.append(f"{name} = {json.dumps(value)}")
    return lines


def _text(text: str) -> str:
    """Return a text as TOML."""
    return json.dumps(text, ensure_ascii=False)
