"""Explanations of quarantine reasons: the field and what was expected, never the value."""

from vigil.features.observations import REASONS
from vigil.features.signals import SIGNALS, bounded_signals
from vigil.features.units import understood_units


def explain_quarantine(reason: str, signal: str) -> tuple[str, str]:
    """Return the field behind a quarantine reason and what was expected there.

    Args:
        reason: a key of :data:`vigil.features.observations.REASONS`.
        signal: the signal of the observation; it may be unknown.

    >>> explain_quarantine("implausible", "spo2")
    ('value', '20 to 100 %')
    """
    unit, units, bounds = "", "", ""
    if (definition := SIGNALS.get(signal)) is not None:
        unit, bounds = definition.unit, f"{definition.low:g} to {definition.high:g}"
        units = " or ".join(understood_units(signal))
    return {
        "imprecise_time": ("observed_at", "an instant with a time of day and its zone, such as 2026-01-31T08:00:00Z"),
        "interval": ("observed_at", "an instant, or a period of a few minutes"),
        "unclear_subject": ("patient_id", "visible characters in one spelling, without blanks at the ends"),
        "missing_time": (
            "observed_at",
            "an instant with its time zone, such as 2026-01-31T08:00:00Z, of 1990 to 2099, or received_at if so declared",
        ),
        "recorded_before_observed": (
            "observed_at",
            "at or before the present of the server; check both clocks, or send it again later",
        ),
        "in_the_future": ("observed_at", "at or before the present of the server"),
        "unknown_signal": ("signal", f"one of {', '.join(SIGNALS)}"),
        "superseded": ("version", "a version newer than those that are known"),
        "ambiguous_code": ("signal", "the signal's name; this code stands for several"),
        "unknown_unit": ("unit", units),
        "codes_disagree": ("unit", f"a unit that fits the code in signal; the signal's are {units}"),
        "not_exact": ("value", f"a number; or with comparator, or as low or high, a bound of {', '.join(bounded_signals())}"),
        "undeclared_range": ("value", "a number with comparator; or declare the measuring range: ranges in sources.toml"),
        "device_error": ("value", "a measurement; the source declares this value as an error code"),
        "missing_unit": ("unit", f"{units}; or declare the unit of the source in sources.toml"),
        "not_a_number": ("value", "a finite number, not a text"),
        "not_a_code": ("value", f"a whole number from {bounds}"),
        "implausible": ("value", f"{bounds} {unit}"),
        "duplicate_message": ("message_id", "a different message_id for each message; this one was used with other content"),
        "duplicate_reading": ("value", "each observation once"),
    }.get(reason, ("reading", REASONS.get(reason, "an observation in the form of the schema")))
