"""The rows and the model that pictures of explanations are made of."""

import pandas as pd

from vigil.features.errors import VigilError
from vigil.models.evaluation.explanations import sample_rows
from vigil.models.registry import NoModelError
from vigil.models.seeds import SEED
from vigil.models.training.risk_model import RiskModel
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.evaluate import read_held_out_rows
from vigil.pipelines.jobs.score_readings import features_of_readings

ROWS = 1_000  # sampled of the held-out patients; TreeSHAP takes a millisecond a row and member


class UnexplainedModelError(VigilError):
    """A model without contributions."""


def rows_to_explain(
    home: Home, task: str, version: str | None = None, readings: pd.DataFrame | None = None
) -> tuple[RiskModel, pd.DataFrame]:
    """Return a model, and the rows whose risks are to be explained.

    Args:
        home: with the model.
        task, version: of the model; default: the champion.
        readings: as :func:`vigil.pipelines.jobs.score_readings.score_readings` takes them: a row for each patient, as of their
            last reading. Default: a sample of the hours (or stays) of the held-out patients.

    Raises:
        NoModelError: there is no such version.
        UnexplainedModelError: the model has no contributions.
        ScoreFileError: no reading can be used.
    """
    if readings is None:
        registered = home.existing_registry().load(task, version)
        rows = sample_rows(read_held_out_rows(home, registered), ROWS, SEED)
    else:
        rows, found, _ = features_of_readings(home, readings, task, version, "readings")
        if found is None:
            raise NoModelError(f"{home.path}: no champion; train one first: vigil train")
        registered = found
    if not registered.model.can_explain:
        raise UnexplainedModelError(
            f"{task} version {registered.version}: its members are no trees, so it has no contributions; expected a model of "
            "boosted trees, such as all_signals"
        )
    return registered.model, rows
