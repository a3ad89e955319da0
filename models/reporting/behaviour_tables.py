"""Tables and sentences of the evaluation report about behaviour and the domain of use."""

import re
from collections.abc import Mapping
from typing import Any, Final

from vigil.features.display_names import name_signal
from vigil.features.signals import STORED
from vigil.models.behaviour.directions import FEWEST_CASES, HISTORY_FACTOR, TOLERANCE
from vigil.models.formatting import NONE, format_interval, format_limits, format_number, format_percent, format_percent_interval
from vigil.models.reporting.tables import Table

Result = Mapping[str, Any]

_ANY_LENGTH: Final = "all"
_HISTORY: Final = {
    "none": "nothing before",
    "short_constant": "5 hourly sets like the last",
    "short_leading": "5 hourly sets towards the last",
    "long_spaced": "usual signs 12 h before",
    "long_hourly": "usual signs hourly for a day",
}
_FAULT: Final = {
    "band_too_low": "TOO LOW",
    "alarm": "ALARM NOT AS EXPECTED",
    "findings": "FINDING MISSING",
    "band_too_high": "too high",
}
_CHECK: Final = {
    "any": "any value",
    "age": "age",
    "hours_of_history": "hours of history",
    "readings": "number of readings",
    "not measured": "vital signs that are not measured",
    "combination of values": "combination of values",
}


def tabulate_vignettes(result: Result) -> Table:
    """Tabulate every vignette: the expected answer, the band with each history, and whether all are as expected."""
    rows = [
        [
            answer["title"],
            f"{answer['news2']}",
            _as_words(answer["expected"]).replace("news2", name_signal("news2")),
            *(_band_with_fault(answer, tabulate_history) for tabulate_history in _HISTORY),
            "NO" if answer["faults"] else "yes",
        ]
        for answer in result["behaviour"]["vignettes"]["answers"]
    ]
    return Table(["patient", "NEWS2", "expected", *_HISTORY.values(), "as expected?"], rows)


def tabulate_failed_vignettes(result: Result) -> Table:
    """Tabulate the vignettes with an answer that is not as expected."""
    table = tabulate_vignettes(result)
    return Table(table.headings, [row for row in table.rows if row[-1] == "NO"])


def tabulate_worsening(result: Result) -> Table:
    """Tabulate how often the risk falls when a patient is made worse, by signal and length of history."""
    section = result["behaviour"]["worsening"]
    cases = {(row["signal"], row["length"]): row for row in section["cases"]}
    lengths = list(dict.fromkeys(row["length"] for row in section["cases"]))
    broken = {row["signal"] for row in section["broken"]}
    rows = []
    for signal in dict.fromkeys(row["signal"] for row in section["cases"]):
        any_length = cases[signal, _ANY_LENGTH]
        verdict = "NOT met" if signal in broken else "met" if any_length["cases"] >= FEWEST_CASES else "too few to judge"
        shares = (_share_of_cases(cases.get((signal, length))) for length in lengths)
        falls = [format_number(any_length[size], 2) for size in ("fall_median", "fall_p95")]
        rows.append([name_signal(signal) if signal != "all" else "all signals", *shares, *falls, verdict])
    names = ["history of any length" if length == _ANY_LENGTH else f"history {length}" for length in lengths]
    return Table(["made worse", *names, "median fall, log-odds", "95th percentile", "limits"], rows)


def tabulate_history(result: Result) -> Table:
    """Tabulate the risk of a set of vital signs after a normal history, divided by the risk of the set alone."""
    section = result["behaviour"]["history"]
    broken = {row["news2"] for row in section["broken"]}
    rows = [
        [
            row["news2"],
            f"{row['cases']:,}",
            format_number(row["ratio_median"], 2) + format_limits(row["ratio_p5"], row["ratio_p95"], 2),
            format_percent(row["share"], 1),
            _verdict(is_judged=row["cases"] >= FEWEST_CASES, is_met=row["news2"] not in broken),
        ]
        for row in section["cases"]
    ]
    return Table(["NEWS2", "sets", "ratio of risks: median (5 to 95 %)", f"beyond {HISTORY_FACTOR:g}-fold", "limit"], rows)


def tabulate_removal(result: Result) -> Table:
    """Tabulate how often patients in the band "high" become "low" without one signal."""
    rows = []
    for part, patients in (("removal", "held-out patients"), ("removal_of_vignettes", "vignettes")):
        section = result["behaviour"][part]
        counts = [f"{section[count]:,}" for count in ("high", "removals", "low")]
        verdict = _verdict(is_judged=section["judged"], is_met=section["passed"])
        rows.append([patients, *counts, format_percent(section["share"], 1), verdict])
    headings = ["patients", "in the band high", "removals where the model decided", "became low", "share", "limit"]
    return Table(headings, rows)


def summarise_behaviour(result: Result) -> list[str]:
    """Summarise vignettes, directional tests and simulated arrivals in sentences."""
    section = result["behaviour"]
    vignettes = section["vignettes"]
    too_high, too_low = vignettes["too_high"], len(vignettes["failed"]) - vignettes["too_high"]
    sentences = list[str]()
    sentences.append(
        f"Of {vignettes['shown']} answers to {len(vignettes['answers'])} clinical vignettes {_count(too_low)} too low or "
        f"without a required alarm or finding. Of the {vignettes['bounded']} answers with a highest right band "
        f"{_count(too_high)} above it."
    )
    worsened = section["worsening"]["cases"][:1]
    if worsened:
        sentences.append(
            f"When one vital sign of a held-out patient was made worse, the risk fell by more than {TOLERANCE:g} log-odds in "
            f"{format_percent(worsened[0]['share'], 1)} of {worsened[0]['cases']:,} changes."
        )
    sets = section["history"]["cases"][:1]
    if sets:
        sentences.append(
            f"A normal set one hour before changed the risk of a set of vital signs more than {HISTORY_FACTOR:g}-fold in "
            f"{format_percent(sets[0]['share'], 1)} of {sets[0]['cases']:,} sets."
        )
    if not all(section[part]["judged"] for part in ("worsening", "history", "removal")):
        sentences.append(f"Tests with fewer than {FEWEST_CASES} cases are shown, but not judged.")
    return [*sentences, _summarise_arrivals(section["arrivals"])]


def summarise_domain(result: Result) -> list[str]:
    """Summarise the domain of use in sentences: who is outside it, and how the model ranks inside and outside."""
    section = result["domain"]
    held_out, vignettes = section["held_out"], section["vignettes"]
    unit, allowed = _row_name(result), format_percent(section["summary"]["share_allowed"], 1)
    rows, patients = (
        format_percent_interval(held_out, metric, digits) for metric, digits in (("share_of_rows", 1), ("share_of_patients", 0))
    )
    inside, outside = (format_interval(held_out, f"auroc_{side}") for side in ("inside", "outside"))
    reasons = ", ".join(f"{_as_words(reason)} ({count})" for reason, count in vignettes["reasons"].items())
    explanation = f": {reasons}" if reasons else ""
    limits = f"The limits were set so that at most {allowed} of the {unit} of training patients are outside."
    return [
        f"Outside the domain of use of the model NEWS2 answers alone. {limits}",
        f"Of the held-out {unit} with a reading {rows} are outside, and {patients} of the patients at some time.",
        f"The AUROC is {inside} inside and {_or_unknown(outside)} outside.",
        f"Of {vignettes['shown']} records of vignettes {_count(vignettes['outside'])} outside{explanation}.",
    ]


def tabulate_domain_limits(result: Result) -> Table:
    """Tabulate the limits of the domain of use."""
    rows = []
    for name, (low, high) in result["domain"]["summary"]["limits"].items():
        is_rate = name.startswith("readings of ")
        label = {"age": "age, years", "hours_of_history": "history, hours in the unit"}.get(
            name, f"{_as_words(name)}, per hour"
        )
        lowest = low if low is None or is_rate else max(low, 0.0)  # a margin may reach below zero
        digits = 2 if is_rate else 0
        rows.append([label, format_number(lowest, digits), format_number(high, digits)])
    return Table(["what", "at least", "at most"], rows)


def tabulate_missing_patterns(result: Result) -> Table:
    """Tabulate the usual patterns of missing vital signs."""
    patterns = result["domain"]["summary"]["missing"]
    rows = [[_as_words(pattern), format_percent(share, 1)] for pattern, share in patterns.items()]
    return Table(["not measured within a day", f"share of training {_row_name(result)}"], rows)


def tabulate_outside(result: Result) -> Table:
    """Tabulate shares outside by check: of training patients, and of patients left out when the limits were set."""
    summary = result["domain"]["summary"]
    shares = [summary["outside_training"], summary["outside_unseen"] or {}]
    rows = [[words, *(format_percent(share.get(check), 2) for share in shares)] for check, words in _CHECK.items()]
    rows.append(["patients outside at some time", *(format_percent(share.get("patients"), 1) for share in shares)])
    return Table(["what is unusual", f"of training {_row_name(result)}", "of patients left out of the limits"], rows)


def _summarise_arrivals(arrivals: Mapping[str, int]) -> str:
    """Summarise simulated arrivals in sentences."""
    return (
        f"Of {arrivals['arrivals']:,} simulated patients at arrival, with one set of vital signs each, "
        f"{arrivals['emergencies']:,} have a NEWS2 of 7 or more. The model alone would have called "
        f"{arrivals['low_by_model']:,} of them low and left {arrivals['without_alarm_by_model']:,} without an alarm. With the "
        f"safety net {_count(arrivals['low'])} low and {arrivals['without_alarm'] or 'none'} without an alarm. "
        f"{arrivals['outside']:,} of them are outside the domain of use. These patients are simulated: this is no clinical "
        "evidence."
    )


def _band_with_fault(answer: Mapping[str, Any], history: str) -> str:
    """Return the band of one answer and its fault; a dash if the vignette lacks the history."""
    if history not in answer["found"]:
        return NONE
    band = answer["found"][history].partition(",")[0].removeprefix("band ")
    fault = answer["faults"].get(history)
    return f"{band} ({_FAULT[fault]})" if fault else band


def _share_of_cases(row: Mapping[str, Any] | None) -> str:
    """Return a share with the number of cases; a dash if there is none."""
    return NONE if row is None else f"{format_percent(row['share'], 1)} of {row['cases']:,}"


def _verdict(*, is_judged: bool, is_met: bool) -> str:
    """Return whether a limit is met."""
    if not is_judged:
        return "too few to judge"
    return "met" if is_met else "NOT met"


def _row_name(result: Result) -> str:
    """Return the name of a row of the evaluation."""
    return "stays" if result["once"] else "patient-hours"


def _as_words(text: str) -> str:
    """Return a text with the names of its signals as people know them.

    >>> _as_words("readings of heart_rate"), _as_words("not measured: spo2, systolic_bp"), _as_words("nothing")
    ('readings of heart rate', 'not measured: SpO2, systolic blood pressure', 'nothing')
    """
    return re.sub(r"\w+", lambda word: name_signal(word[0]) if word[0] in STORED else word[0].replace("_", " "), text)


def _count(count: int) -> str:
    """Return a count with its verb: "none is", "1 is", "2 are"."""
    return f"{count or 'none'} {'is' if count <= 1 else 'are'}"


def _or_unknown(shown: str) -> str:
    """Return a formatted value, or "unknown" in place of a dash."""
    return "unknown" if shown == NONE else shown
