"""Early-warning scores, exact.

NEWS2: Royal College of Physicians. National Early Warning Score (NEWS) 2: Standardising the assessment of acute-illness
severity in the NHS. London: RCP, 2017 (chart 1; SpO2 scale 1).
Shock index: Allgower M, Burri C. Schockindex. Dtsch Med Wochenschr 1967;92:1947-1950 (heart rate / systolic pressure).
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

# Vital -> (lower edges of bands 1.., points of bands 0..). The chart is printed in whole numbers (temperature: tenths), so
# between two printed values the band changes at the midpoint, which is rounded up: 20.5 breaths a minute count as 21.
NEWS2_BANDS: Final[Mapping[str, tuple[tuple[float, ...], tuple[int, ...]]]] = {
    "respiratory_rate": ((8.5, 11.5, 20.5, 24.5), (3, 1, 0, 2, 3)),
    "spo2": ((91.5, 93.5, 95.5), (3, 2, 1, 0)),
    "on_oxygen": ((0.5,), (0, 2)),
    "systolic_bp": ((90.5, 100.5, 110.5, 219.5), (3, 2, 1, 0, 3)),
    "heart_rate": ((40.5, 50.5, 90.5, 110.5, 130.5), (3, 1, 0, 1, 2, 3)),
    "consciousness": ((0.5,), (0, 3)),
    "body_temperature": ((35.05, 36.05, 38.05, 39.05), (3, 1, 0, 1, 2)),
}
NEWS2_MAX: Final = sum(max(points) for _, points in NEWS2_BANDS.values())

# Aggregate score -> clinical response band of the chart; a single part of 3 is low-medium and asks for an urgent review.
NEWS2_MEDIUM: Final = 5
NEWS2_HIGH: Final = 7


def news2_points(vital: str, values: Float64) -> Float64:
    """Points of one part of NEWS2, elementwise; NaN where the value is missing.

    Args:
        vital: a key of :data:`NEWS2_BANDS`.
        values: any shape, in the signal's unit.
    """
    edges, points = NEWS2_BANDS[vital]
    scored = np.asarray(points, dtype=np.float64)[np.digitize(values, edges)]
    return np.where(np.isnan(values), np.nan, scored)


def news2(vitals: Mapping[str, Float64]) -> dict[str, Float64]:
    """NEWS2 from whatever is known.

    Args:
        vitals: arrays of one shape for every key of :data:`NEWS2_BANDS`; NaN where not measured.

    Returns:
        ``news2``: the sum, a missing part counting 0, which is also the lowest the full score can be;
        ``news2_highest``: the highest it can be, a missing part counting its maximum; ``news2_<vital>``: each part.
    """
    parts = {f"news2_{vital}": news2_points(vital, vitals[vital]) for vital in NEWS2_BANDS}
    worst = [
        np.where(np.isnan(part), max(points), part)
        for part, (_, points) in zip(parts.values(), NEWS2_BANDS.values(), strict=True)
    ]
    return {
        "news2": np.sum([np.nan_to_num(part) for part in parts.values()], axis=0),
        "news2_highest": np.sum(worst, axis=0),
        **parts,
    }


def shock_index(heart_rate: Float64, systolic_bp: Float64) -> Float64:
    """Heart rate / systolic pressure, elementwise; about 0.5 to 0.7 in health, NaN where either is missing."""
    return heart_rate / systolic_bp
