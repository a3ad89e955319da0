"""The page ``docs/features.md``. The command ``vigil features --catalogue`` generates it; never edit it by hand."""

from collections import Counter

from vigil.features.catalogue import SERVICES, STANDARD, VIEWS, service_views
from vigil.features.codes import LOINC, MDC, accepted_codes
from vigil.features.markdown import markdown_table
from vigil.features.signals import SIGNALS, bounded_signals
from vigil.features.units import CUSTOMARY, understood_units
from vigil.features.windows import STATISTICS

_INTRODUCTION = """# Features

Vigil computes {total} features in {views} views. This page lists all of them. The command
`vigil features --catalogue docs/features.md` generates it from the declarations in `features/catalogue.py`. A test checks that
the page is up to date.

The {standard} features of the standard views are always computed. The other views are computed on demand: a home computes
them if its task uses a feature service that reads them.

A feature at index time *t* uses only observations that were observed **and** recorded at or before *t*. In the tables,
"last 6 h" is the half-open interval (*t* - 6 h, *t*], "so far" is everything up to *t*, and "first day" is the 24 h that begin
with the first observation of the signal.

The column *reflects* has two values:

- **physiology** ({physiology} features): what was measured.
- **workflow** ({workflow} features): when and how often staff measured, and where the patient is in the course of care.

Measurement habits differ between hospitals, so compare a model of `physiology` with a model of `workflow`. No feature is
entirely free of workflow: a missing value shows that the signal was not measured.
"""

_SIGNALS = """## Signals

An observation outside the plausible range is quarantined. Values are rounded to the resolution. A signal may be sent by its
name or by a code of the table. LOINC 2708-6 is SpO2 in vital signs and SaO2 in laboratory results, so alone it is quarantined.

Values in the *units converted* are converted exactly. A value without a unit is taken in the signal's own unit, unless it could
also be meant in a unit of the last column: then it is quarantined as `missing_unit`. A home can declare the units of a source
in `sources.toml`.

These signals may also be sent as a bound, such as `<40`: {bounded}. A bound is an observation of a signal of its own, such as
`glucose_below_range`. Only how many there are and how old the latest is are features.
"""


def catalogue_page() -> str:
    """Render the page in Markdown.

    >>> print(catalogue_page()[:10])
    # Features
    """
    all_features = [feature for view in VIEWS.values() for feature in view]
    reflects = Counter(feature.reflects for feature in all_features)
    sections = [
        _INTRODUCTION.format(
            total=len(all_features),
            views=len(VIEWS),
            standard=sum(len(VIEWS[view]) for view in STANDARD),
            physiology=reflects["physiology"],
            workflow=reflects["workflow"],
        ),
        "## Views\n\nA view holds features that are computed and stored together.\n",
        markdown_table(
            ["view", "features", "computed"],
            [
                [f"[`{name}`](#view-{name})", str(len(features)), "always" if name in STANDARD else "on demand"]
                for name, features in VIEWS.items()
            ],
        ),
        "## Services\n\nA service is the list of features that one model reads.\n",
        markdown_table(
            ["service", "features", "views"],
            [
                [f"`{name}`", str(len(features)), ", ".join(f"`{view}`" for view in service_views(name))]
                for name, features in SERVICES.items()
            ],
        ),
        "## Statistics\n\n`unit` stands for the unit of the signal.\n",
        markdown_table(
            ["statistic", "definition", "unit"],
            [[name, statistic.meaning, statistic.unit.format(unit="unit")] for name, statistic in STATISTICS.items()],
        ),
        _SIGNALS.format(bounded=", ".join(f"`{name}`" for name in bounded_signals())),
        markdown_table(
            [
                "signal",
                "kind",
                "LOINC",
                "MDC",
                "unit (UCUM)",
                "plausible range",
                "resolution",
                "units converted",
                "could be meant in",
            ],
            [
                [
                    s.name,
                    s.kind,
                    ", ".join(accepted_codes(LOINC, s.name)),
                    ", ".join(accepted_codes(MDC, s.name)),
                    f"`{s.unit}`",
                    f"{s.low:g} to {s.high:g}",
                    f"{s.resolution:g}",
                    ", ".join(f"`{unit}`" for unit in understood_units(s.name)[1:]),
                    ", ".join(f"`{unit}`" for unit in CUSTOMARY.get(s.name, ())),
                ]
                for s in SIGNALS.values()
            ],
        ),
    ]
    for view, features in VIEWS.items():
        sections += [
            f"## View `{view}`\n",
            markdown_table(
                ["name", "signal", "statistic", "window", "unit (UCUM)", "reflects", "description", "source"],
                [
                    [f"`{f.name}`", f.signal, f.statistic, f.window, f"`{f.unit}`", f.reflects, f.description, f.source]
                    for f in features
                ],
            ),
        ]
    return "\n".join(sections)
