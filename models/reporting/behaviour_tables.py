"""The tables of the report about behaviour and the domain of use, and what they say in sentences."""

from collections.abc import Mapping
from typing import Any, Final

from models.behaviour.directions import FEWEST_CASES, HISTORY_FACTOR, TOLERANCE
from models.reporting.tables import NONE, Table, interval, number, percent, percents

Result = Mapping[str, Any]

_ANY_LENGTH: Final = "all"
_HISTORY: Final = {
    "none": "nothing before",
    "short_constant": "5 hourly sets like it",
    "short_leading": "5 hourly sets leading there",
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
    "any": "anything",
    "age": "age",
    "hours_of_history": "hours of history",
    "readings": "number of readings",
    "not measured": "vital signs that are not measured",
    "combination of values": "combination of values",
}


def vignettes(result: Result) -> Table:
    """Every vignette: what is expected, what was found with each history, and whether it is as expected."""
    rows = [
        [
            answer["title"],
            f"{answer['news2']}",
            answer["expected"],
            *(_answer(answer, history) for history in _HISTORY),
            "NO" if answer["faults"] else "yes",
        ]
        for answer in result["behaviour"]["vignettes"]["answers"]
    ]
    return Table(["patient", "NEWS2", "expected", *_HISTORY.values(), "as expected?"], rows)


def wrong_vignettes(result: Result) -> Table:
    """The same of those that were not answered as expected."""
    table = vignettes(result)
    return Table(table.headings, [row for row in table.rows if row[-1] == "NO"])


def directions(result: Result) -> Table:
    """What came of making patients worse, by signal and length of history."""
    found = result["behaviour"]["worsening"]
    cases = {(row["signal"], row["length"]): row for row in found["cases"]}
    lengths = list(dict.fromkeys(row["length"] for row in found["cases"]))
    broken = {row["signal"] for row in found["broken"]}
    rows = []
    for signal in dict.fromkeys(row["signal"] for row in found["cases"]):
        whole = cases[signal, _ANY_LENGTH]
        verdict = "NOT kept" if signal in broken else "kept" if whole["cases"] >= FEWEST_CASES else "too few to judge"
        shares = (_share(cases.get((signal, length))) for length in lengths)
        falls = [number(whole[size], 2) for size in ("fall_median", "fall_p95")]
        rows.append([_words(signal) if signal != "all" else "all signals", *shares, *falls, verdict])
    names = ["history of any length" if length == _ANY_LENGTH else f"history {length}" for length in lengths]
    return Table(["made worse", *names, "median fall, log-odds", "95th percentile", "limits"], rows)


def history(result: Result) -> Table:
    """The risk of a set of vital signs after a normal history, divided by that of the set alone."""
    found = result["behaviour"]["history"]
    broken = {row["news2"] for row in found["broken"]}
    rows = [
        [
            row["news2"],
            f"{row['cases']:,}",
            f"{number(row['ratio_median'], 2)} ({number(row['ratio_p5'], 2)}-{number(row['ratio_p95'], 2)})",
            percent(row["share"], 1),
            _verdict(is_judged=row["cases"] >= FEWEST_CASES, is_kept=row["news2"] not in broken),
        ]
        for row in found["cases"]
    ]
    return Table(["NEWS2", "sets", "ratio of risks: median (5 to 95 %)", f"beyond {HISTORY_FACTOR:g}-fold", "limit"], rows)


def removal(result: Result) -> Table:
    """What came of taking away all readings of one signal from patients in the band "high"."""
    rows = []
    for part, whose in (("removal", "held-out patients"), ("removal_of_vignettes", "vignettes")):
        found = result["behaviour"][part]
        counts = [f"{found[count]:,}" for count in ("high", "removals", "low")]
        verdict = _verdict(is_judged=found["judged"], is_kept=found["passed"])
        rows.append([whose, *counts, percent(found["share"], 1), verdict])
    headings = ["whose", "in the band high", "removals from those by the model", "turned low", "share", "limit"]
    return Table(headings, rows)


def behaves(result: Result) -> list[str]:
    """Say in sentences what came of vignettes, changed patients and simulated arrivals."""
    found = result["behaviour"]
    shown, came = found["vignettes"], found["arrivals"]
    wrong = len(shown["failed"]) - shown["too_high"]
    said = [
        (
            f"Of {shown['shown']} answers to {len(shown['answers'])} clinical vignettes {wrong or 'none'} {_is(wrong)} too low "
            f"or without a due alarm or finding; {shown['too_high'] or 'none'} of {shown['bounded']} {_is(shown['too_high'])} "
            "above the highest right band."
        )
    ]
    whole = found["worsening"]["cases"][:1]
    if whole:
        said.append(
            f"Where one vital sign of a held-out patient was made worse, the risk fell by more than {TOLERANCE:g} log-odds in "
            f"{percent(whole[0]['share'], 1)} of {whole[0]['cases']:,} changes."
        )
    sets = found["history"]["cases"][:1]
    if sets:
        said.append(
            f"A normal history an hour before changed the risk of a set of vital signs more than {HISTORY_FACTOR:g}-fold in "
            f"{percent(sets[0]['share'], 1)} of {sets[0]['cases']:,} sets."
        )
    if not all(found[part]["judged"] for part in ("worsening", "history", "removal")):
        said.append(f"What had fewer than {FEWEST_CASES} cases is shown, but not judged.")
    return [*said, _of_arrivals(came)]


def speaks(result: Result) -> list[str]:
    """Say in sentences where the model may speak, and how it does inside and outside."""
    found = result["domain"]
    held_out, shown = found["held_out"], found["vignettes"]
    asked = _asked(result)
    said = [
        (
            f"Outside its domain of use NEWS2 answers alone. Of the held-out {asked} with a reading "
            f"{percents(held_out, 'share_of_rows', 1)} are outside, and {percents(held_out, 'share_of_patients')} of the "
            "patients at some time; limits were set to leave out at most "
            f"{percent(found['summary']['share_allowed'], 1)} of training."
        ),
        f"AUROC is {interval(held_out, 'auroc_inside')} inside and {_known(interval(held_out, 'auroc_outside'))} outside.",
    ]
    reasons = ", ".join(f"{reason} ({count})" for reason, count in shown["reasons"].items())
    because = f": {reasons}" if reasons else ""
    return [
        *said,
        f"Of {shown['shown']} sets of the vignettes {shown['outside'] or 'none'} {_is(shown['outside'])} outside{because}.",
    ]


def limits(result: Result) -> Table:
    """The limits of the domain of use."""
    rows = []
    for name, (low, high) in result["domain"]["summary"]["limits"].items():
        of_readings = name.startswith("readings of ")
        unit = {"age": "age, years", "hours_of_history": "history, hours in the unit"}.get(name, f"{_words(name)}, per hour")
        lowest = low if low is None or of_readings else max(low, 0.0)  # a margin may reach below what can be
        digits = 2 if of_readings else 0
        rows.append([unit, number(lowest, digits), number(high, digits)])
    return Table(["what", "at least", "at most"], rows)


def missing(result: Result) -> Table:
    """The usual patterns of vital signs that are not measured."""
    usual = result["domain"]["summary"]["missing"]
    rows = [[_words(what), percent(share, 1)] for what, share in usual.items()]
    return Table(["usual: not measured within a day", f"share of training {_asked(result)}"], rows)


def outside(result: Result) -> Table:
    """Shares outside by check: of training patients, and of patients left out of the limits in turn."""
    summary = result["domain"]["summary"]
    parts = [summary["outside_training"], summary["outside_unseen"] or {}]
    rows = [[words, *(percent(part.get(check), 2) for part in parts)] for check, words in _CHECK.items()]
    rows.append(["patients outside at some time", *(percent(part.get("patients"), 1) for part in parts)])
    return Table(["what is unusual", f"of training {_asked(result)}", "of those left out of the limits"], rows)


def _of_arrivals(came: Mapping[str, int]) -> str:
    return (
        f"Of {came['arrivals']:,} simulated patients at arrival, known by one set of vital signs, {came['emergencies']:,} have "
        f"a NEWS2 of 7 or more. The model alone would have called {came['low_by_model']:,} of them low and left "
        f"{came['without_alarm_by_model']:,} without an alarm; with the safety net {came['low'] or 'none'} {_is(came['low'])} "
        f"low and {came['without_alarm'] or 'none'} without an alarm. {came['outside']:,} of them are outside the domain of "
        "use. They are simulated: no clinical evidence."
    )


def _answer(answer: Mapping[str, Any], history: str) -> str:
    if history not in answer["found"]:
        return NONE
    band = answer["found"][history].partition(",")[0].removeprefix("band ")
    fault = answer["faults"].get(history)
    return f"{band} ({_FAULT[fault]})" if fault else band


def _share(row: Mapping[str, Any] | None) -> str:
    return NONE if row is None else f"{percent(row['share'], 1)} of {row['cases']:,}"


def _verdict(*, is_judged: bool, is_kept: bool) -> str:
    if not is_judged:
        return "too few to judge"
    return "kept" if is_kept else "NOT kept"


def _asked(result: Result) -> str:
    """What a row is."""
    return "stays" if result["once"] else "patient-hours"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _is(count: int) -> str:
    return "is" if count <= 1 else "are"


def _known(shown: str) -> str:
    return "unknown" if shown == NONE else shown
