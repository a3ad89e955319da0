"""Why a reading cannot be used, in words: field and expectation, never the value."""

from features.observations import REASONS
from features.signals import SIGNALS


def explain(reason: str, signal: str) -> tuple[str, str]:
    """Field and expectation behind a reason of quarantine, without the value."""
    unit, bounds = "", ""
    if (entry := SIGNALS.get(signal)) is not None:
        unit, bounds = entry.unit, f"{entry.low:g} to {entry.high:g}"
    return {
        "unclear_subject": ("patient_id", "visible characters in one spelling, without blanks at the ends"),
        "missing_time": ("observed_at", "an instant with its time zone, such as 2026-01-31T08:00:00Z, of 1990 to 2099"),
        "recorded_before_observed": ("observed_at", "at or before the present of the server"),
        "in_the_future": ("observed_at", "at or before the present of the server"),
        "unknown_signal": ("signal", f"one of {', '.join(SIGNALS)}"),
        "unknown_unit": ("unit", unit),
        "not_a_number": ("value", "a finite number, not a text"),
        "not_a_code": ("value", f"a whole number from {bounds}"),
        "implausible": ("value", f"{bounds} {unit}"),
        "duplicate_message": ("message_id", "one name a message; this one said something else before"),
        "duplicate_reading": ("value", "each reading once"),
    }.get(reason, ("reading", REASONS.get(reason, "a reading in the schema's form")))
