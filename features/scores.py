"""Early-warning scores, exact, each with the interval in which it lies when parts are missing.

NEWS2: Royal College of Physicians. National Early Warning Score (NEWS) 2: Standardising the assessment of acute-illness
severity in the NHS. London: RCP, 2017 (chart 1; SpO2 scale 1).
MEWS: Subbe CP, Kruger M, Rutherford P, Gemmel L. Validation of a modified Early Warning Score in medical admissions. QJM
2001;94:521-526.
qSOFA: Singer M, Deutschman CS, Seymour CW, et al. The third international consensus definitions for sepsis and septic shock
(Sepsis-3). JAMA 2016;315:801-810.
SIRS: Bone RC, Balk RA, Cerra FB, et al. Definitions for sepsis and organ failure. Chest 1992;101:1644-1655.
SOFA: Vincent JL, Moreno R, Takala J, et al. The SOFA score to describe organ dysfunction/failure. Intensive Care Med
1996;22:707-710; its respiratory part from SpO2/FiO2: Pandharipande PP, Shintani AK, Hagerman HE, et al. Crit Care Med
2009;37:1317-1321.
Shock index: Allgower M, Burri C. Schockindex. Dtsch Med Wochenschr 1967;92:1947-1950 (heart rate / systolic pressure).
"""

import functools
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Bands = tuple[tuple[float, ...], tuple[int, ...]]
"""Lower edges of bands 1.., and points of bands 0..: a value at an edge belongs to the band above it."""
Chart = Mapping[str, Bands]
"""Bands of each part of a score, by what the part looks at."""

# Charts are printed in whole numbers (temperature: tenths), so between two printed values the band changes at the midpoint,
# which is rounded up: 20.5 breaths a minute count as 21.
NEWS2_BANDS: Final[Chart] = {
    "respiratory_rate": ((8.5, 11.5, 20.5, 24.5), (3, 1, 0, 2, 3)),
    "spo2": ((91.5, 93.5, 95.5), (3, 2, 1, 0)),
    "on_oxygen": ((0.5,), (0, 2)),
    "systolic_bp": ((90.5, 100.5, 110.5, 219.5), (3, 2, 1, 0, 3)),
    "heart_rate": ((40.5, 50.5, 90.5, 110.5, 130.5), (3, 1, 0, 1, 2, 3)),
    "consciousness": ((0.5,), (0, 3)),
    "body_temperature": ((35.05, 36.05, 38.05, 39.05), (3, 1, 0, 1, 2)),
}
# Reproductions of the chart differ on a heart rate of 40 and a pressure of 70, which lie between two printed bands: they count
# as the worse. AVPU knows no confusion: a confused patient is alert.
MEWS_BANDS: Final[Chart] = {
    "systolic_bp": ((70.5, 80.5, 100.5, 199.5), (3, 2, 1, 0, 2)),
    "heart_rate": ((40.5, 50.5, 100.5, 110.5, 129.5), (2, 1, 0, 1, 2, 3)),
    "respiratory_rate": ((8.5, 14.5, 20.5, 29.5), (2, 0, 1, 2, 3)),
    "body_temperature": ((34.95, 38.45), (2, 0, 2)),
    "consciousness": ((1.5, 2.5, 3.5), (0, 1, 2, 3)),
}
# Criteria given as inequalities are taken as they stand: 22 and above, 100 and below.
_ABOVE_100: Final = float(np.nextafter(100, np.inf))
QSOFA_BANDS: Final[Chart] = {
    "respiratory_rate": ((22,), (0, 1)),
    "systolic_bp": ((_ABOVE_100,), (1, 0)),
    "consciousness": ((0.5,), (0, 1)),
}
# The parts that these measurements decide. Points that ask for ventilation or vasopressors, of which nothing is known here, are
# left out: respiration ends at 2 of 4, circulation at 1; consciousness (Glasgow scale) and urine are not measured. Where bands
# are printed with a gap (creatinine 1.9 and 2.0, above 5.0) a value counts from the lower limit of the worse. The limits of
# SpO2/FiO2 give one point to the healthy at 97 % on room air: they were derived in ventilated patients.
SOFA_BANDS: Final[Chart] = {
    "spo2_fio2": ((357, 512), (2, 1, 0)),
    "platelets": ((20, 50, 100, 150), (4, 3, 2, 1, 0)),
    "bilirubin_total": ((1.2, 2, 6, 12), (0, 1, 2, 3, 4)),
    "mean_bp": ((70,), (1, 0)),
    "creatinine": ((1.2, 2, 3.5, 5), (0, 1, 2, 3, 4)),
}
SPO2_ON_THE_SLOPE: Final = 98  # %; above it SpO2 says nothing of the lung: SpO2/FiO2 was derived up to here
ROOM_AIR: Final = 21  # % oxygen

# Aggregate score -> clinical response band of the chart; a single part of 3 is low-medium and asks for an urgent review.
NEWS2_MEDIUM: Final = 5
NEWS2_HIGH: Final = 7


def points(bands: Bands, values: Float64) -> Float64:
    """Points of one part of a score, elementwise; NaN where the value is missing.

    Args:
        bands: of the part.
        values: any shape, in the signal's unit.
    """
    edges, scored = _searchable(bands)
    return scored[np.searchsorted(edges, values, side="right")]


@functools.cache
def _searchable(bands: Bands) -> tuple[Float64, Float64]:
    """Bands as arrays, and above all of them, where searching puts what is missing, a band without points."""
    edges, scored = bands
    return np.array([*edges, np.inf]), np.array([*scored, np.nan])


def score(name: str, chart: Chart, values: Mapping[str, Float64]) -> dict[str, Float64]:
    """A score from whatever is known.

    Args:
        name: of the score.
        chart: its parts.
        values: arrays of one shape for every part; NaN where not measured.

    Returns:
        ``<name>``: the sum, a missing part counting 0 (as no part has negative points, also the lowest the full score can be);
        ``<name>_highest``: the highest it can be, a missing part counting its maximum; ``<name>_<part>``: each part.
    """
    parts = {part: points(bands, values[part]) for part, bands in chart.items()}
    return {
        **_interval(name, list(parts.values()), [max(scored) for _, scored in chart.values()]),
        **{f"{name}_{part}": found for part, found in parts.items()},
    }


def sirs(values: Mapping[str, Float64]) -> dict[str, Float64]:
    """Criteria of the systemic inflammatory response met, 0 to 4: ``sirs`` and ``sirs_highest``.

    Temperature above 38 or below 36 Cel; heart rate above 90 /min; respiratory rate above 20 /min or PaCO2 below 32 mm[Hg];
    white cells above 12 or below 4 (10*3/uL). A criterion of two alternatives is met by either and ruled out by both.
    Immature forms, the third way to the last criterion, are not measured.

    Args:
        values: arrays of one shape for body_temperature, heart_rate, respiratory_rate, paco2, wbc; NaN where not measured.
    """
    criteria = [
        _either(values["body_temperature"] > 38, values["body_temperature"] < 36, missing=np.isnan(values["body_temperature"])),
        _either(values["heart_rate"] > 90, missing=np.isnan(values["heart_rate"])),
        _either(
            values["respiratory_rate"] > 20,
            values["paco2"] < 32,
            missing=np.isnan(values["respiratory_rate"]) | np.isnan(values["paco2"]),
        ),
        _either(values["wbc"] > 12, values["wbc"] < 4, missing=np.isnan(values["wbc"])),
    ]
    return _interval("sirs", criteria, [1, 1, 1, 1])


def shock_index(heart_rate: Float64, systolic_bp: Float64) -> Float64:
    """Heart rate / systolic pressure, elementwise; about 0.5 to 0.7 in health, NaN where either is missing."""
    return heart_rate / systolic_bp


def spo2_fio2(spo2: Float64, fio2: Float64, on_oxygen: Float64) -> Float64:
    """SpO2 / FiO2, elementwise, FiO2 as a fraction; that of room air where no oxygen is given, NaN where unknown.

    Args:
        spo2, fio2: %.
        on_oxygen: 0 or 1; with 0 the FiO2 is that of before, and does not count. NaN where unknown, or older than the FiO2.
    """
    inspired = np.where(on_oxygen == 0, ROOM_AIR, fio2)
    return spo2 / inspired * 100


def _either(*met: NDArray[np.bool_], missing: NDArray[np.bool_]) -> Float64:
    """1 where an alternative is met (comparisons with NaN are false), else 0, or NaN where something is missing."""
    return np.where(np.logical_or.reduce(met), 1.0, np.where(missing, np.nan, 0.0))


def _interval(name: str, parts: list[Float64], highest: list[int]) -> dict[str, Float64]:
    found = np.stack(parts, axis=-1)
    missing = np.isnan(found)
    return {
        name: np.where(missing, 0.0, found).sum(axis=-1),
        f"{name}_highest": np.where(missing, np.array(highest, dtype=np.float64), found).sum(axis=-1),
    }
