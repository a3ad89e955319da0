"""Names what went wrong, from the most specific to the least: what a specific fault explains is not named again."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from models.monitoring.detectors.evidence import Evidence
from models.monitoring.detectors.finding import Finding
from models.monitoring.detectors.offset_and_noise import bias, noise
from models.monitoring.detectors.population import older_or_younger, outcomes, sicker_or_healthier, versions
from models.monitoring.detectors.swapped_devices import exchanged
from models.monitoring.detectors.timing import absence, clocks, lateness, rates, repetition
from models.monitoring.detectors.values import rounded, stuck, swapped, units, unusable, zeros

# In this order: a gateway that sends Fahrenheit also seems to lack temperatures, one with a wrong clock seems late, and what is
# left where most readings cannot be used seems noisy.
_OF_READINGS: Final[tuple[Callable[[Evidence], Iterable[Finding]], ...]] = (
    units, zeros, swapped, lateness, clocks, repetition, rounded, stuck, absence, rates, unusable, exchanged, noise, bias,
)  # fmt: skip


def name_faults(evidence: Evidence) -> list[Finding]:
    """Faults that the last day shows: of readings, then of the patients, the versions and what became of patients."""
    named: list[Finding] = []
    for detector in _OF_READINGS:
        named += [
            finding for finding in detector(evidence) if not any(_explains(known, finding, evidence.behind) for known in named)
        ]
    # Readings that are wrong make patients look ill, but nobody older.
    mix = [*older_or_younger(evidence)] or ([] if named else [*sicker_or_healthier(evidence)])
    return [*named, *mix, *versions(evidence), *outcomes(evidence)]


def _explains(known: Finding, finding: Finding, behind: Mapping[str, str]) -> bool:
    """Whether a fault that is named already makes another look as if it were there: of the same signal, where it is or within.

    A lead that is off at one monitor explains nothing of the gateway that it is behind, and nothing of other gateways.
    """
    same_signal = known.signal is None or finding.signal is None or _family(known.signal) == _family(finding.signal)
    if known.place == finding.place == "device":
        within = bool(set(known.where) & set(finding.where))
    elif known.place == "gateway" and finding.place == "device":
        within = bool({behind.get(device) for device in finding.where} & set(known.where))
    else:
        within = not known.where or known.where == finding.where
    return same_signal and within


def _family(signal: str) -> str:
    """Pressures of one cuff go wrong together."""
    return "pressure" if signal.endswith("_bp") else signal


__all__ = ["Evidence", "Finding", "name_faults"]
