"""The tables of ``docs/fhir.md``, which are never edited there.

``python -m vigil.serving.fhir.page docs/fhir.md`` writes them again.
"""

import sys
from pathlib import Path
from typing import Final

from vigil.features.codes import LOINC, MDC, SATURATION, accepted_codes
from vigil.features.markdown import markdown_table
from vigil.features.signals import SIGNALS
from vigil.features.units import understood_units
from vigil.serving.fhir.concepts import ANSWERS, CODES_OF, PANELS, SIGNAL_SYSTEM, SNOMED
from vigil.serving.fhir.observations import STATUSES

BEGIN: Final = "<!-- generated from the code: begin -->"
END: Final = "<!-- generated from the code: end -->"
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


def tables() -> str:
    """Return the tables in Markdown."""
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
    return "\n".join(
        [
            BEGIN,
            "",
            markdown_table(["signal", "LOINC", "MDC", "SNOMED CT", "units"], signals),
            markdown_table(["signal", "answer", "codes"], answers),
            markdown_table(["panel", "retracted, if a correction leaves it out"], panels),
            markdown_table(["`status`", "the readings"], statuses),
            END,
        ]
    )


def _codes(system: str, signal: str) -> list[str]:
    own = [code for (of, code), name in CODES_OF.items() if of == system and name == signal]
    return [code for code in (*accepted_codes(system, signal), *own) if code != SATURATION]


def update(page: str) -> str:
    """Return a page with its tables written again."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{tables()}{after}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(update(path.read_text()))
