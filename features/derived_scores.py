"""Early-warning scores as derived features. Their charts and formulas are in :mod:`vigil.features.scores`."""

from typing import Final

import numpy as np

from vigil.features import scores
from vigil.features.derived import (
    LABORATORY_CARRY_HOURS,
    RATIOS,
    SCORE_CARRY_HOURS,
    Columns,
    DerivedFeatures,
    Float64,
    declare_latest,
    read_latest,
)
from vigil.features.windows import CONTINUOUS_MIN_COUNT, Feature, declare_statistics


def declare_charted_score(
    name: str, title: str, chart: scores.Chart, source: str, *, with_components: bool = False
) -> DerivedFeatures:
    """Declare a score in which each component scores the latest value of one signal.

    Args:
        name: Prefix of the feature names.
        title: Name of the score for readers.
        chart: Bands of the components.
        source: Publication of the score.
        with_components: Whether the points of each component are features too.
    """
    features = [
        Feature(name, name, "{score}", f"{title}, a missing component counting 0", source=source),
        Feature(
            f"{name}_highest",
            name,
            "{score}",
            f"highest possible {title}, a missing component counting its maximum",
            "workflow",
            source=source,
        ),
    ]
    if with_components:
        features += [
            Feature(f"{name}_{signal}", signal, "{score}", f"{title} points for {signal.replace('_', ' ')}", source=source)
            for signal in chart
        ]
    return DerivedFeatures(
        tuple(features), lambda columns: scores.compute_score(name, chart, read_latest(columns, chart)), declare_latest(*chart)
    )


# Signals of the safety net: those that monitors may send continuously, and those that nurses chart.
CONTINUOUS: Final = ("respiratory_rate", "spo2", "systolic_bp", "heart_rate", "body_temperature")
_CHARTED: Final = ("on_oxygen", "consciousness")


def _compute_sustained_news2(columns: Columns) -> Columns:
    levels = read_sustained_levels(columns)
    score = scores.compute_score("news2_sustained", scores.NEWS2_BANDS, levels)
    points = {signal: score[f"news2_sustained_{signal}"] for signal in scores.NEWS2_BANDS}
    return sum_sustained_news2(points, columns)


def read_sustained_levels(columns: Columns) -> dict[str, Float64]:
    """Return the value of each NEWS2 component as the safety net sees it: the sustained level, or the latest one charted."""
    levels = {signal: columns[f"{signal}_sustained_{SCORE_CARRY_HOURS}h"] for signal in CONTINUOUS}
    return levels | read_latest(columns, _CHARTED)


def sum_sustained_news2(points: Columns, columns: Columns) -> Columns:
    """Return the features of :data:`SUSTAINED_NEWS2` from the points of each component.

    Args:
        points: by component, NaN where unknown.
        columns: the number of recent observations of each continuous signal.
    """
    is_continuous = {signal: columns[f"{signal}_recent_{SCORE_CARRY_HOURS}h"] >= CONTINUOUS_MIN_COUNT for signal in CONTINUOUS}
    known = {signal: np.where(np.isnan(own), 0.0, own) for signal, own in points.items()}
    spot = [np.where(is_continuous.get(signal, np.False_), 0.0, own) for signal, own in known.items()]
    return {
        "news2_sustained": np.sum(list(known.values()), axis=0),
        "news2_sustained_worst": np.fmax.reduce(list(points.values()), axis=0),
        "news2_sustained_spot": np.sum(spot, axis=0),
    }


SUSTAINED_NEWS2: Final = DerivedFeatures(
    (
        Feature(
            "news2_sustained",
            "news2",
            "{score}",
            "NEWS2 of sustained values, a missing component counting 0; the safety net uses this score",
            source="RCP 2017; Makivirta 1991",
        ),
        Feature(
            "news2_sustained_worst",
            "news2",
            "{score}",
            "highest NEWS2 points of a single component, of sustained values; missing where no component is known",
            source="RCP 2017; Makivirta 1991",
        ),
        Feature(
            "news2_sustained_spot",
            "news2",
            "{score}",
            "part of news2_sustained from signals that are not measured continuously",
            source="RCP 2017",
        ),
    ),
    _compute_sustained_news2,
    declare_statistics(CONTINUOUS, SCORE_CARRY_HOURS, "sustained", "recent") + declare_latest(*_CHARTED),
)


def _compute_sirs(columns: Columns) -> Columns:
    vitals = read_latest(columns, ("body_temperature", "heart_rate", "respiratory_rate"))
    return scores.compute_sirs(vitals | read_latest(columns, ("paco2", "wbc"), LABORATORY_CARRY_HOURS))


SIRS: Final = DerivedFeatures(
    (
        Feature("sirs", "sirs", "{score}", "SIRS criteria met, a missing one counting as not met", source="Bone 1992"),
        Feature(
            "sirs_highest",
            "sirs",
            "{score}",
            "highest possible number of SIRS criteria, a missing one counting as met",
            "workflow",
            source="Bone 1992",
        ),
    ),
    _compute_sirs,
    declare_latest("body_temperature", "heart_rate", "respiratory_rate")
    + declare_latest("paco2", "wbc", hours=LABORATORY_CARRY_HOURS),
)


def _compute_sofa(columns: Columns) -> Columns:
    ratio = np.where(columns[f"spo2_last_{SCORE_CARRY_HOURS}h"] <= scores.SPO2_FIO2_MAX_SPO2, columns["spo2_fio2"], np.nan)
    blood = read_latest(columns, ("platelets", "bilirubin_total", "creatinine"), LABORATORY_CARRY_HOURS)
    pressure = {"mean_bp": columns[f"mean_bp_min_{SCORE_CARRY_HOURS}h"]}
    return scores.compute_score("sofa", scores.SOFA_BANDS, {"spo2_fio2": ratio} | blood | pressure)


SOFA: Final = DerivedFeatures(
    (
        Feature(
            "sofa",
            "sofa",
            "{score}",
            "SOFA: points of five components, at most 15 of 24, a missing component counting 0",
            source="Vincent 1996",
        ),
        Feature(
            "sofa_highest",
            "sofa",
            "{score}",
            "highest possible SOFA points of these components, a missing component counting its maximum",
            "workflow",
            source="Vincent 1996",
        ),
        *(
            Feature(
                f"sofa_{component}",
                component,
                "{score}",
                f"SOFA points for {component.replace('_', ' ')}",
                source="Vincent 1996",
            )
            for component in scores.SOFA_BANDS
        ),
    ),
    _compute_sofa,
    (
        RATIOS,
        *declare_latest("spo2"),
        *declare_latest("platelets", "bilirubin_total", "creatinine", hours=LABORATORY_CARRY_HOURS),
        *declare_statistics(["mean_bp"], SCORE_CARRY_HOURS, "min"),
    ),
)
