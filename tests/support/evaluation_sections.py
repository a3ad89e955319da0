"""Examples of the sections ``behaviour`` and ``domain`` of an evaluation."""

from vigil.models.behaviour.examination import summarise_outcomes
from vigil.models.behaviour.vignettes import Outcome, load_vignettes


def answered(faults):
    """Return a summary of vignettes with some faults: (vignette, history) -> (fault, answer)."""
    library = load_vignettes()
    outcomes = [
        Outcome(vignette.name, history, vignette.expected, answer or vignette.expected, fault)
        for vignette in library
        for history in vignette.histories
        for fault, answer in [faults.get((vignette.name, history), (None, None))]
    ]
    return summarise_outcomes(library, outcomes)


def examination(**changed):
    """Return the results of an examination that passes."""
    row = {"signal": "all", "length": "all", "cases": 400, "violations": 8, "share": 0.02, "fall_median": 0.1, "fall_p95": 0.3}
    ratio = {"news2": "all", "cases": 200, "outside": 4, "share": 0.02, "ratio_p5": 0.7, "ratio_median": 1.1, "ratio_p95": 2.0}
    removal = {"high": 30, "cases": [], "removals": 120, "low": 1, "share": 1 / 120, "judged": True, "passed": True}
    return {
        "vignettes": answered({}),
        "worsening": {"cases": [row], "judged": 1, "broken": [], "passed": True},
        "history": {"cases": [ratio], "judged": 1, "broken": [], "passed": True},
        "removal": removal,
        "removal_of_vignettes": removal,
        **changed,
    }


def behaviour(**changed):
    """Return the section ``behaviour``."""
    arrivals = {
        "arrivals": 2000, "emergencies": 512, "low_by_model": 31, "without_alarm_by_model": 97, "low": 0, "without_alarm": 0,
        "outside": 44,
    }  # fmt: skip
    return {**examination(), "arrivals": arrivals, **changed}


def domain():
    """Return the section ``domain``."""
    shares = {
        "any": 0.015, "age": 0.002, "hours_of_history": 0.003, "readings": 0.004, "not measured": 0.003,
        "combination of values": 0.004, "patients": 0.12,
    }  # fmt: skip
    limits = {"age": [17.0, 96.0], "hours_of_history": [-2.0, 312.0], "readings of heart_rate": [0.021, 61.5]}
    missing = {"nothing": 0.9, "body_temperature": 0.06, "spo2, systolic_bp": 0.03}
    held_out = {"rows": 4000, "patients": 160, "rows_outside": 52, "prevalence_inside": 0.04, "prevalence_outside": 0.09}
    for name, value in (("share_of_rows", 0.013), ("share_of_patients", 0.1), ("auroc_inside", 0.81), ("auroc_outside", None)):
        ends = (value - 0.004, value + 0.006) if value is not None else (None, None)
        held_out |= dict(zip((name, f"{name}_low", f"{name}_high"), (value, *ends), strict=True))
    return {
        "summary": {
            "share_allowed": 0.02, "patients": 640, "limits": limits, "missing": missing, "outside_training": shares,
            "outside_unseen": None,
        },
        "held_out": held_out,
        "vignettes": {"shown": 94, "outside": 20, "reasons": {"age": 14, "not measured: spo2": 6}},
    }  # fmt: skip
