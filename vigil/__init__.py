"""Vigil from Python: cohorts, scores, features, models and risks, frames in and frames out.

::

    import vigil

    cohort = vigil.read_cohort("cohort.toml")          # a mapping of your tables, or "simulated", or "cinc2019" and its path
    home = vigil.Home("home")
    home.ingest(cohort)
    home.train()
    home.evaluate()                                    # a frame: a row a model, with intervals
    home.champion().predict(readings)                  # a row a patient
    vigil.plots.beeswarm(home.champion())              # a figure: what moves its risks
    home.fairness(by=["sex", "ward"])                  # a row a group of patients

Frames are pandas. Functions that take a frame also take Polars, Arrow and others, by narwhals, and return the same kind.

The rooms behind it are packages: ``vigil.features``, ``vigil.models``, ``vigil.serving`` and ``vigil.pipelines``. The attribute
``vigil.features`` is the function of that name; ``from vigil.features.signals import SIGNALS`` reads the package.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import vigil.features  # noqa: F401 - first, since importing a package sets the attribute of its name: it is to be the function

if TYPE_CHECKING:
    from vigil import plots
    from vigil.interface import (
        Cohort,
        Home,
        Model,
        VigilError,
        draft_mapping,
        features,
        glucose_profile,
        news2,
        read_cohort,
        time_in_range,
    )
    from vigil.models.training.risk_model import RiskModel

__all__ = [
    "Cohort",
    "Home",
    "Model",
    "RiskModel",
    "VigilError",
    "draft_mapping",
    "features",
    "glucose_profile",
    "news2",
    "plots",
    "read_cohort",
    "time_in_range",
]

del features


def __getattr__(name: str) -> Any:
    """Import the interface when it is asked for, so that a room can be imported without pandas."""
    if name not in __all__:
        raise AttributeError(f"module 'vigil' has no attribute {name!r}")
    from vigil import interface

    if name == "RiskModel":  # its libraries take seconds, which the others need not
        from vigil.models.training.risk_model import RiskModel

        return RiskModel
    if name == "plots":
        return import_module("vigil.plots")
    return getattr(interface, name)


def __dir__() -> list[str]:
    return sorted(__all__)
