"""Gates of behaviour: clinical vignettes and directional tests, which a first champion must pass too."""

from collections.abc import Mapping
from typing import Any, Final

from vigil.models.behaviour.directions import (
    FEWEST_CASES,
    HISTORY_FACTOR,
    LARGEST_FALL,
    MOST_LOW_AFTER_REMOVAL,
    MOST_OUTSIDE_FACTOR,
    MOST_VIOLATIONS,
    MOST_VIOLATIONS_OF_A_SIGNAL,
    TOLERANCE,
)
from vigil.models.behaviour.examination import MOST_TOO_HIGH
from vigil.models.formatting import format_number, format_percent
from vigil.models.promotion.gate import Gate

_MOST_NAMED: Final = 3  # the number of faults to name; the report shows all


def check_vignettes(summary: Mapping[str, Any]) -> Gate:
    """Check that the full answers, with safety net and domain of use, are right for the clinical vignettes.

    Args:
        summary: the summary of all vignettes (:func:`vigil.models.behaviour.examination.summarise_outcomes`).
    """
    failures = [failure for failure in summary["failed"] if failure["fault"] != "band_too_high"]
    shown = failures or ([] if summary["passed"] else summary["failed"])
    named = [
        f"{failure['vignette']} ({failure['history']}): {failure['found']}, expected {failure['expected']}"
        for failure in shown[:_MOST_NAMED]
    ]
    others = [f"{len(shown) - _MOST_NAMED} more"] if len(shown) > _MOST_NAMED else []
    counts = (
        f"of {summary['shown']} answers {len(failures) or 'none'} too low or without a required alarm or finding, and of the "
        f"{summary['bounded']} with a highest right band {summary['too_high'] or 'none'} above it"
    )
    return Gate(
        name="vignettes",
        passed=summary["passed"],
        found="; ".join([*named, *others, counts]),
        expected=(
            "no answer too low, every required alarm and finding, and at most "
            f"{format_percent(MOST_TOO_HIGH)} of the answers with a highest right band above it"
        ),
        remedy=(
            "look at the answer to each vignette (vigil evaluate --version N, section Behaviour); train on more patients, or "
            "on a cohort with patients like these"
        ),
        figures=summary,
    )


def check_directions(examination: Mapping[str, Any]) -> Gate:
    """Check that the risk does not fall when a patient is made worse, and that no one signal or short history decides alone.

    Args:
        examination: with ``worsening, history, removal`` and ``removal_of_vignettes``
            (:mod:`vigil.models.behaviour.directions`).
    """
    tests = {name: examination[name] for name in ("worsening", "history", "removal", "removal_of_vignettes")}
    return Gate(
        name="directions",
        passed=all(test["passed"] for test in tests.values()),
        found="; ".join(
            [
                _describe_worsening(tests["worsening"]),
                _describe_history(tests["history"]),
                _describe_removal(tests["removal"], "of held-out patients"),
                _describe_removal(tests["removal_of_vignettes"], "of vignettes"),
            ]
        ),
        expected=(
            f"for tests with {FEWEST_CASES} cases or more: when a patient is made worse, a fall of the log-odds by more than "
            f"{TOLERANCE:g} in at most {format_percent(MOST_VIOLATIONS)} of all changes and "
            f"{format_percent(MOST_VIOLATIONS_OF_A_SIGNAL)} of those of one signal, and a 95th percentile of falls of at most "
            f"{LARGEST_FALL:g}; a normal history that changes the risk more than {HISTORY_FACTOR:g}-fold in at most "
            f"{format_percent(MOST_OUTSIDE_FACTOR)} of sets; a high band that becomes low in at most "
            f"{format_percent(MOST_LOW_AFTER_REMOVAL)} of removals of one signal"
        ),
        remedy=(
            "look at the signals and lengths of history named here (vigil evaluate --version N, section Behaviour); train on "
            "more patients, with truncated records and changed habits"
        ),
        figures=tests,
    )


def _describe_worsening(test: Mapping[str, Any]) -> str:
    """Describe the test of patients made worse."""
    if not test["judged"]:
        return "worsening: too few to judge"
    broken = [
        f"worsening of {row['signal']}, history {row['length']}: {format_percent(row['share'])} of {row['cases']} changes "
        f"lower the risk, 95th percentile of falls {format_number(row['fall_p95'], 2)}"
        for row in test["broken"][:_MOST_NAMED]
    ]
    total = test["cases"][0]
    return "; ".join(broken) or f"worsening: {format_percent(total['share'])} of {total['cases']} changes lower the risk"


def _describe_history(test: Mapping[str, Any]) -> str:
    """Describe the test of a normal history."""
    if not test["judged"]:
        return "history: too few to judge"
    row = (test["broken"] or test["cases"])[0]
    return f"history, NEWS2 {row['news2']}: {format_percent(row['share'])} of {row['cases']} sets beyond the factor"


def _describe_removal(test: Mapping[str, Any], what: str) -> str:
    """Describe the test of removed signals."""
    if not test["judged"]:
        return f"removal {what}: too few to judge"
    return f"removal {what}: {format_percent(test['share'])} of {test['removals']} change high to low"
