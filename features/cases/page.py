"""The page ``docs/cases.md``. The command ``vigil features --cases`` generates it; never edit it by hand."""

import json
from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

from vigil.features.cases import CASES
from vigil.features.cases.case import Case
from vigil.features.markdown import markdown_table
from vigil.features.observations import REASONS, ObservationError, check
from vigil.features.signals import STORED

_OBSERVED_AT: Final = "2026-03-01T08:00:00Z"  # of a row that states no time
_NOW: Final = pd.Timestamp("2026-03-01T12:00:00Z")
_INTRODUCTION: Final = """# Cases of the field

What arrives from devices and hospitals, and what becomes of it. The outcomes on this page are computed: the command
`vigil features --cases docs/cases.md` sends each case through the check that every observation passes. One test compares each
with the outcome that is right, another checks that the page is up to date. The tables themselves are in `features/cases`.

A row is shown as signal, value and unit, if one is sent, and then by the names of its other fields.
A row that states no time was observed at {observed_at}. It was recorded at once, if it does not say otherwise. Of several
values at one time, the last in the outcome counts as the latest. `until` says when a newer version took the place of a value.
A number in a file may be a text, such as `"81.5"`; over the API a text is no number.

*Refused* stands for a file that cannot be checked at all. Over the API, such an observation is quarantined as `missing_time`.
[api.md](api.md#the-life-of-an-observation) explains the reasons of quarantine.
"""


def find_outcome(case: Case) -> tuple[str, ...]:
    """Return what the check makes of a case.

    Returns:
        What is accepted, in the order in which it counts: with its time if that is not the usual one of the page, and until
        when it counts if a newer version ends that. Then ``retracts`` for each retraction, and the reason of each row in
        quarantine. ``refused`` alone if no row can be checked.

    >>> find_outcome(Case(({"signal": "glucose", "value": 6.1, "unit": "mmol/L"},), (), ""))
    ('glucose 109.9 mg/dL',)
    """
    frame = pd.DataFrame([{"subject_id": "p", "observed_at": _OBSERVED_AT, **row} for row in case.sent], dtype=object)
    if "recorded_at" in frame:
        frame["recorded_at"] = frame["recorded_at"].fillna(frame["observed_at"])
    try:
        checked = check(frame, _NOW, case.declared)
    except ObservationError:
        return ("refused",)
    accepted = [_describe(row) for _, row in checked.accepted.iterrows()]
    return (*accepted, *["retracts"] * len(checked.retractions), *checked.quarantined["reason"])


def _describe(row: "pd.Series[Any]") -> str:
    unit = STORED[row["signal"]].unit
    text = f"{row['signal']} {row['value']:.10g}" + (f" {unit}" if unit != "1" else "")
    if row["observed_at"] != pd.Timestamp(_OBSERVED_AT):
        text += f" at {_iso(row['observed_at'])}"
    if not pd.isna(until := row.get("superseded_at")):
        text += f" until {_iso(until)}"
    return text


def _iso(time: pd.Timestamp) -> str:
    return time.isoformat().replace("+00:00", "Z")


def cases_page() -> str:
    """Render the page in Markdown.

    >>> print(cases_page()[:20])
    # Cases of the field
    """
    sections = [_INTRODUCTION.format(observed_at=_OBSERVED_AT)]
    for title, cases in CASES.items():
        rows = [["<br>".join(map(_show_sent, case.sent)), _show_outcome(find_outcome(case)), case.because] for case in cases]
        sections += [f"## {title}\n", markdown_table(["sent", "outcome", "why"], rows)]
    return "\n".join(sections)


def _show_sent(row: Mapping[str, Any]) -> str:
    """Return a row as it is sent: signal, value and unit, then the other fields by name."""
    unit = [str(row["unit"]) or '""'] if "unit" in row else []
    others = [f"{name}={json.dumps(value)}" for name, value in row.items() if name not in {"signal", "value", "unit"}]
    return f"`{', '.join([row['signal'], json.dumps(row['value']), *unit, *others])}`"


def _show_outcome(outcome: tuple[str, ...]) -> str:
    return "<br>".join(
        f"quarantined: `{part}`" if part in REASONS else f"*{part}*" if " " not in part else part for part in outcome
    )
