"""Early-warning scores. If components are missing, each score comes with the interval in which the full score lies.

NEWS2: Royal College of Physicians. National Early Warning Score (NEWS) 2: Standardising the assessment of acute-illness
severity in the NHS. London: RCP, 2017 (chart 1; both SpO2 scales).
MEWS: Subbe CP, Kruger M, Rutherford P, Gemmel L. Validation of a modified Early Warning Score in medical admissions. QJM
2001;94:521-526.
qSOFA: Singer M, Deutschman CS, Seymour CW, et al. The third international consensus definitions for sepsis and septic shock
(Sepsis-3). JAMA 2016;315:801-810.
SIRS: Bone RC, Balk RA, Cerra FB, et al. Definitions for sepsis and organ failure. Chest 1992;101:1644-1655.
SOFA: Vincent JL, Moreno R, Takala J, et al. The SOFA score to describe organ dysfunction/failure. Intensive Care Med
1996;22:707-710. Its respiratory component is computed from SpO2/FiO2: Pandharipande PP, Shintani AK, Hagerman HE, et al. Crit
Care Med 2009;37:1317-1321.
Shock index: Allgower M, Burri C. Schockindex. Dtsch Med Wochenschr 1967;92:1947-1950 (heart rate / systolic pressure).
"""

import functools
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Bands = tuple[tuple[float, ...], tuple[int, ...]]
"""Lower edges of bands 1, 2, ..., and points of bands 0, 1, 2, .... A value at an edge belongs to the band above it."""
Chart = Mapping[str, Bands]
"""Bands of each component of a score, by the quantity that the component scores."""

# Charts are printed in whole numbers (temperature: in tenths). Between two printed values the band changes at the midpoint,
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
# SpO2 scale 2 is for patients in hypercapnic respiratory failure whose target is 88 to 92 %. On oxygen a higher value scores.
NEWS2_SPO2_SCALE_2_ON_AIR: Final[Bands] = ((83.5, 85.5, 87.5), (3, 2, 1, 0))
NEWS2_SPO2_SCALE_2_ON_OXYGEN: Final[Bands] = ((83.5, 85.5, 87.5, 92.5, 94.5, 96.5), (3, 2, 1, 0, 1, 2, 3))
# Reproductions of the chart differ on a heart rate of 40 and a pressure of 70, which lie between two printed bands. They count
# as the worse band. The AVPU scale has no confusion: a confused patient counts as alert.
MEWS_BANDS: Final[Chart] = {
    "systolic_bp": ((70.5, 80.5, 100.5, 199.5), (3, 2, 1, 0, 2)),
    "heart_rate": ((40.5, 50.5, 100.5, 110.5, 129.5), (2, 1, 0, 1, 2, 3)),
    "respiratory_rate": ((8.5, 14.5, 20.5, 29.5), (2, 0, 1, 2, 3)),
    "body_temperature": ((34.95, 38.45), (2, 0, 2)),
    "consciousness": ((1.5, 2.5, 3.5), (0, 1, 2, 3)),
}
# Criteria that are published as inequalities are used unchanged: 22 and above, 100 and below.
_ABOVE_100: Final = float(np.nextafter(100, np.inf))
QSOFA_BANDS: Final[Chart] = {
    "respiratory_rate": ((22,), (0, 1)),
    "systolic_bp": ((_ABOVE_100,), (1, 0)),
    "consciousness": ((0.5,), (0, 1)),
}
# The components that Vigil's measurements determine. Points that require ventilation or vasopressors are left out, because
# neither is known here: respiration ends at 2 of 4 points, circulation at 1. Consciousness (Glasgow scale) and urine are not
# measured. Where bands are printed with a gap (creatinine 1.9 and 2.0, above 5.0), the worse band begins at its printed lower
# limit. The limits of SpO2/FiO2 were derived in ventilated patients: they give one point to the healthy at 97 % on room air.
SOFA_BANDS: Final[Chart] = {
    "spo2_fio2": ((357, 512), (2, 1, 0)),
    "platelets": ((20, 50, 100, 150), (4, 3, 2, 1, 0)),
    "bilirubin_total": ((1.2, 2, 6, 12), (0, 1, 2, 3, 4)),
    "mean_bp": ((70,), (1, 0)),
    "creatinine": ((1.2, 2, 3.5, 5), (0, 1, 2, 3, 4)),
}
SPO2_FIO2_MAX_SPO2: Final = 98  # %; SpO2/FiO2 was derived up to this SpO2; a higher one says nothing about the lung
ROOM_AIR: Final = 21  # % oxygen

# Lowest total score of the medium and of the high response band. A single component of 3 is low-medium, with an urgent review.
NEWS2_MEDIUM: Final = 5
NEWS2_HIGH: Final = 7


def assign_points(bands: Bands, values: Float64) -> Float64:
    """Return the points of one component of a score, elementwise. The points are NaN where the value is missing.

    Args:
        bands: Bands of the component.
        values: Values in the unit of the signal, any shape.

    >>> assign_points(NEWS2_BANDS["spo2"], np.array([91.0, 93.0, 97.0, np.nan]))
    array([ 3.,  2.,  0., nan])
    """
    edges, points = _searchable(bands)
    return points[np.searchsorted(edges, values, side="right")]


@functools.cache
def _searchable(bands: Bands) -> tuple[Float64, Float64]:
    """Return bands as arrays, with a last band for NaN, which a search places after all numbers."""
    edges, points = bands
    return np.array([*edges, np.inf]), np.array([*points, np.nan])


def compute_score(name: str, chart: Chart, values: Mapping[str, Float64]) -> dict[str, Float64]:
    """Compute a score from the values that are known.

    Args:
        name: Name of the score, the prefix of the results.
        chart: Bands of its components.
        values: One array for each component, all of one shape; NaN where not measured.

    Returns:
        ``<name>``: the sum, in which a missing component counts 0. As no component has negative points, this is also the
        lowest value that the full score can have. ``<name>_highest``: the highest value that the full score can have, in
        which a missing component counts its maximum. ``<name>_<component>``: the points of each component.

    >>> result = compute_score("qsofa", QSOFA_BANDS, {
    ...     "respiratory_rate": np.array([24.0]), "systolic_bp": np.array([120.0]), "consciousness": np.array([np.nan])
    ... })
    >>> result["qsofa"], result["qsofa_highest"], result["qsofa_respiratory_rate"]
    (array([1.]), array([2.]), array([1.]))
    """
    components = {component: assign_points(bands, values[component]) for component, bands in chart.items()}
    return {
        **_interval(name, list(components.values()), [max(points) for _, points in chart.values()]),
        **{f"{name}_{component}": points for component, points in components.items()},
    }


def assign_spo2_scale_2(spo2: Float64, on_oxygen: Float64) -> Float64:
    """Return the points of SpO2 by scale 2 of NEWS2, elementwise. NaN where unknown.

    Above 92 % the points depend on oxygen, so they are unknown where it is unknown whether the patient receives any.

    Args:
        spo2: %.
        on_oxygen: 0 or 1; NaN where unknown.

    >>> assign_spo2_scale_2(np.array([90.0, 97.0, 97.0, 97.0]), np.array([np.nan, 0.0, 1.0, np.nan]))
    array([ 0.,  0.,  3., nan])
    """
    on_air, with_oxygen = (assign_points(bands, spo2) for bands in (NEWS2_SPO2_SCALE_2_ON_AIR, NEWS2_SPO2_SCALE_2_ON_OXYGEN))
    unknown = np.where(on_air == with_oxygen, on_air, np.nan)
    return np.select([on_oxygen == 0, on_oxygen == 1], [on_air, with_oxygen], unknown)


def compute_sirs(values: Mapping[str, Float64]) -> dict[str, Float64]:
    """Count the criteria of the systemic inflammatory response syndrome (SIRS) that are met, 0 to 4.

    The criteria are: temperature above 38 or below 36 Cel; heart rate above 90 /min; respiratory rate above 20 /min or PaCO2
    below 32 mm[Hg]; white cells above 12 or below 4 (10*3/uL). A criterion with two alternatives is met if either is met, and
    not met if both are known not to be. Immature forms, the third alternative of the last criterion, are not measured.

    Args:
        values: Arrays of one shape for body_temperature, heart_rate, respiratory_rate, paco2 and wbc; NaN where not measured.

    Returns:
        ``sirs``: criteria met, a missing one counting as not met. ``sirs_highest``: a missing one counting as met.

    >>> vitals = {"body_temperature": np.array([38.5]), "heart_rate": np.array([95.0]), "respiratory_rate": np.array([14.0])}
    >>> compute_sirs({**vitals, "paco2": np.array([40.0]), "wbc": np.array([np.nan])})
    {'sirs': array([2.]), 'sirs_highest': array([3.])}
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


def compute_shock_index(heart_rate: Float64, systolic_bp: Float64) -> Float64:
    """Return heart rate / systolic pressure, elementwise. It is about 0.5 to 0.7 in health.

    It is NaN where either is missing.

    >>> compute_shock_index(np.array([90.0]), np.array([120.0]))
    array([0.75])
    """
    return heart_rate / systolic_bp


def compute_spo2_fio2(spo2: Float64, fio2: Float64, on_oxygen: Float64) -> Float64:
    """Return SpO2 / FiO2, elementwise, with FiO2 as a fraction. NaN where unknown.

    Args:
        spo2, fio2: %.
        on_oxygen: 0 or 1. At 0 the patient breathes room air; an FiO2 from before does not count. NaN where unknown or older
            than the FiO2.

    >>> compute_spo2_fio2(np.array([92.0, 84.0]), np.array([40.0, np.nan]), np.array([1.0, 0.0]))
    array([230., 400.])
    """
    inspired = np.where(on_oxygen == 0, ROOM_AIR, fio2)
    return spo2 / inspired * 100


def _either(*met: NDArray[np.bool_], missing: NDArray[np.bool_]) -> Float64:
    """Return 1 where an alternative is met, else NaN where something is missing, else 0. Comparisons with NaN are false."""
    return np.where(np.logical_or.reduce(met), 1.0, np.where(missing, np.nan, 0.0))


def _interval(name: str, components: list[Float64], maxima: list[int]) -> dict[str, Float64]:
    points = np.stack(components, axis=-1)
    missing = np.isnan(points)
    return {
        name: np.where(missing, 0.0, points).sum(axis=-1),
        f"{name}_highest": np.where(missing, np.array(maxima, dtype=np.float64), points).sum(axis=-1),
    }
