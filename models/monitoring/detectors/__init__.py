"""Detectors: each finds one kind of fault, and says where and since when.

They run from the most specific to the least. What a specific fault explains is not reported again.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from vigil.models.monitoring.detectors.evidence import Evidence
from vigil.models.monitoring.detectors.finding import Finding
from vigil.models.monitoring.detectors.offset_and_noise import detect_noise, detect_offset
from vigil.models.monitoring.detectors.population import (
    detect_age_mix,
    detect_outcome_shift,
    detect_severity_mix,
    detect_version_mismatch,
)
from vigil.models.monitoring.detectors.swapped_devices import detect_swapped_devices
from vigil.models.monitoring.detectors.timing import (
    detect_changed_rate,
    detect_clock_error,
    detect_duplicates,
    detect_late_messages,
    detect_missing_signal,
)
from vigil.models.monitoring.detectors.values import (
    detect_other_unit,
    detect_rounding,
    detect_stuck_sensor,
    detect_swapped_pressures,
    detect_unusable,
    detect_zeros,
)

# The order matters: a gateway that sends Fahrenheit also seems to lack temperatures, one with a wrong clock seems late, and a
# signal of which most readings are unusable seems noisy.
_OF_READINGS: Final[tuple[Callable[[Evidence], Iterable[Finding]], ...]] = (
    detect_other_unit,
    detect_zeros,
    detect_swapped_pressures,
    detect_late_messages,
    detect_clock_error,
    detect_duplicates,
    detect_rounding,
    detect_stuck_sensor,
    detect_missing_signal,
    detect_changed_rate,
    detect_unusable,
    detect_swapped_devices,
    detect_noise,
    detect_offset,
)


def detect_faults(evidence: Evidence) -> list[Finding]:
    """Detect the faults of the last day: of readings, then of the patients, of versions and of outcomes."""
    findings: list[Finding] = []
    for detect in _OF_READINGS:
        findings += [
            finding
            for finding in detect(evidence)
            if not any(_explains(known, finding, evidence.gateways) for known in findings)
        ]
    # Wrong readings make patients look ill, but not older.
    mix = [*detect_age_mix(evidence)] or ([] if findings else [*detect_severity_mix(evidence)])
    return [*findings, *mix, *detect_version_mismatch(evidence), *detect_outcome_shift(evidence)]


def _explains(known: Finding, finding: Finding, gateways: Mapping[str, str]) -> bool:
    """Return whether a known fault makes another look real: of the same signal, at the same location or within it.

    A lead that is off at one monitor explains nothing about the gateway of that monitor, and nothing about other gateways.
    """
    same_signal = known.signal is None or finding.signal is None or _family(known.signal) == _family(finding.signal)
    if known.scope == finding.scope == "device":
        within = bool(set(known.where) & set(finding.where))
    elif known.scope == "gateway" and finding.scope == "device":
        within = bool({gateways.get(device) for device in finding.where} & set(known.where))
    else:
        within = not known.where or known.where == finding.where
    return same_signal and within


def _family(signal: str) -> str:
    """Return the family of a signal; the pressures of one cuff go wrong together."""
    return "pressure" if signal.endswith("_bp") else signal


__all__ = ["Evidence", "Finding", "detect_faults"]
