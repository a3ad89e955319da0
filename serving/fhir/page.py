"""The tables of ``docs/fhir.md``, which are never edited there.

``python -m vigil.serving.fhir.page docs/fhir.md`` writes them again.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from vigil.features.codes import LOINC, MDC, SATURATION, accepted_codes
from vigil.features.markdown import markdown_table
from vigil.features.signals import SIGNALS
from vigil.features.units import understood_units
from vigil.serving.fhir.concepts import ANSWERS, CODES_OF, PANELS, SIGNAL_SYSTEM, SNOMED
from vigil.serving.fhir.interactions import RESOURCES
from vigil.serving.fhir.observations import STATUSES

BEGIN: Final = "<!-- generated from the code, {}: begin -->"
END: Final = "<!-- generated from the code, {}: end -->"
_INTERACTIONS: Final = {
    "read": "`GET {}/ID`",
    "search-type": "`GET {}?…`, `POST {}/_search`",
    "create": "`POST {}`",
    "update": "`PUT {}/ID`",
    "delete": "`DELETE {}/ID`",
}
_SYSTEMS: Final = {LOINC: "LOINC", MDC: "MDC", SNOMED: "SNOMED CT", SIGNAL_SYSTEM: "Vigil"}
_ANSWERS: Final = {  # what the numbers of coded signals mean (features/signals.py)
    "consciousness": ("alert", "new confusion", "responds to voice", "responds to pain", "unresponsive"),
    "on_oxygen": ("no", "yes"),
}
_MEANINGS: Final = {
    "final": "counts",
    "corrected": "takes the place of the version before",
    "retracted": "what was said before no longer counts",
    None: "no reading yet",
}


def interactions_table() -> str:
    """Return the table of what is offered of each type of resource."""
    rows = []
    for offered in RESOURCES:
        interactions = [
            text.replace("{}", offered.type) for name, text in _INTERACTIONS.items() if name in offered.interactions
        ]
        details = dict(offered.details)
        if details.get("conditionalCreate"):
            interactions.append("`If-None-Exist: identifier=SYSTEM|VALUE`")
        if details.get("conditionalUpdate"):
            interactions.append(f"`PUT {offered.type}?identifier=SYSTEM|VALUE`")
        if details.get("versioning") == "versioned-update":
            interactions.append("`If-Match`")
        parameters = [f"`{name}`" for name, _ in offered.search]
        operations = [f"`${operation['name']}`" for operation in details.get("operation", ())]
        rows.append([f"`{offered.type}`", ", ".join([*interactions, *operations]), ", ".join(parameters)])
    return markdown_table(["resource", "interactions", "search parameters"], rows)


def observation_tables() -> str:
    """Return the tables that say which Observations become readings."""
    signals = [
        [
            f"`{name}`",
            ", ".join(_codes(LOINC, name) + (["2708-6 with the category laboratory"] if name == "sao2" else [])),
            ", ".join(_codes(MDC, name)),
            ", ".join(_codes(SNOMED, name)),
            ", ".join(f"`{unit}`" for unit in understood_units(name)),
        ]
        for name in SIGNALS
    ]
    answers = [
        [
            f"`{name}`",
            meaning,
            ", ".join(f"{_SYSTEMS[system]} {code}" for (system, code), own in ANSWERS[name].items() if own == value),
        ]
        for name, meanings in _ANSWERS.items()
        for value, meaning in enumerate(meanings)
    ]
    panels = [
        [f"{_SYSTEMS[system]} {code}", ", ".join(f"`{name}`" for name in names)] for (system, code), names in PANELS.items()
    ]
    statuses = [[f"`{status}`", _MEANINGS[own]] for status, own in STATUSES.items()]
    statuses.append(["`unknown`", "refused (`unknown_status`): its source does not know whether it holds"])
    return "\n".join(
        [
            markdown_table(["signal", "LOINC", "MDC", "SNOMED CT", "units"], signals),
            markdown_table(["signal", "answer", "codes"], answers),
            markdown_table(["panel", "in a bulk export retracted, if a correction leaves it out"], panels),
            markdown_table(["`status`", "the readings"], statuses),
        ]
    )


def _codes(system: str, signal: str) -> list[str]:
    own = [code for (of, code), name in CODES_OF.items() if of == system and name == signal]
    return [code for code in (*accepted_codes(system, signal), *own) if code != SATURATION]


BLOCKS: Final[Mapping[str, Callable[[], str]]] = {"interactions": interactions_table, "observations": observation_tables}


def update(page: str) -> str:
    """Return a page with its tables written again."""
    for name, table in BLOCKS.items():
        before, _, rest = page.partition(BEGIN.format(name))
        _, _, after = rest.partition(END.format(name))
        page = f"{before}{BEGIN.format(name)}\n\n{table()}\n{END.format(name)}{after}"
    return page


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(update(path.read_text()))
