"""The catalogue as a page for readers: ``docs/features.md``, written by ``vigil features --catalogue`` and never by hand."""

from collections import Counter

from features.catalogue import SERVICES, STANDARD, VIEWS, service_views
from features.signals import SIGNALS
from features.windows import STATISTICS

_INTRODUCTION = """# Features

Every feature that Vigil computes: {total} in {views} views. This page is made by `vigil features --catalogue docs/features.md`
from the declarations in `features/catalogue.py`; a test sees to it that it is up to date.

The {standard} features of the standard views are computed everywhere. The other views are computed on demand: only in a home
whose task has a feature service that reads them.

A feature at index time *t* knows only readings observed **and** recorded at or before *t*. "last 6 h" is the half-open interval
(*t* - 6 h, *t*]; "so far" is everything up to *t*; "first day" is the 24 h that begin with the signal's first reading.

*Reflects* says what a feature speaks of: **physiology** is what was measured; **workflow** is when and how often somebody
measured, and where the patient is in the course of care ({physiology} and {workflow} features). Habits of measuring differ
between hospitals, so compare models of `physiology` and `workflow`. No feature is free of workflow altogether: that a
value is missing says that nobody measured.
"""


def catalogue_page() -> str:
    """The page, in Markdown."""
    every = [feature for view in VIEWS.values() for feature in view]
    reflects = Counter(feature.reflects for feature in every)
    parts = [
        _INTRODUCTION.format(
            total=len(every),
            views=len(VIEWS),
            standard=sum(len(VIEWS[view]) for view in STANDARD),
            physiology=reflects["physiology"],
            workflow=reflects["workflow"],
        ),
        "## Views\n\nWhat is computed and stored together.\n",
        _table(
            ["view", "features", "computed"],
            [
                [f"[`{name}`](#view-{name})", str(len(features)), "everywhere" if name in STANDARD else "on demand"]
                for name, features in VIEWS.items()
            ],
        ),
        "## Services\n\nWhat a model asks for, by name.\n",
        _table(
            ["service", "features", "of the views"],
            [
                [f"`{name}`", str(len(features)), ", ".join(f"`{view}`" for view in service_views(name))]
                for name, features in SERVICES.items()
            ],
        ),
        "## Statistics\n\nIn the unit of the signal where nothing else is said.\n",
        _table(
            ["statistic", "is", "unit"],
            [[name, entry.meaning, entry.unit.format(unit="unit")] for name, entry in STATISTICS.items()],
        ),
        "## Signals\n\nA reading outside the plausible range is quarantined; values are rounded to the resolution.\n",
        _table(
            ["signal", "kind", "LOINC", "unit (UCUM)", "plausible", "resolution"],
            [
                [s.name, s.kind, s.loinc or "", f"`{s.unit}`", f"{s.low:g} to {s.high:g}", f"{s.resolution:g}"]
                for s in SIGNALS.values()
            ],
        ),
    ]
    for view, features in VIEWS.items():
        parts += [
            f"## View `{view}`\n",
            _table(
                ["name", "signal", "statistic", "window", "unit (UCUM)", "reflects", "what it is", "source"],
                [
                    [f"`{f.name}`", f.signal, f.statistic, f.window, f"`{f.unit}`", f.reflects, f.description, f.source]
                    for f in features
                ],
            ),
        ]
    return "\n".join(parts)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"
