"""The time to assess the prediction log, compared with Evidently's default preset on the same frames."""

import numpy as np
import pandas as pd
from evidently import Dataset, Report
from evidently.presets import DataDriftPreset

from tests.benchmarks.measure import Section, in_turn
from vigil.models.evaluation.label_free import estimate_performance
from vigil.models.monitoring.feature_drift import compare_columns
from vigil.pipelines.drift.evidently_report import compare, render_page
from vigil.pipelines.drift.report import SHOWN, average_by_patient

PREDICTIONS, FEATURES, PATIENTS = 100_000, 100, 4_200
ROUNDS = 3


def speed_section() -> Section:
    """Measure a day of a large hospital."""
    reference, current = _log(1), _log(2)
    features = [column for column in current if column.startswith(("f", "p"))]

    def assess() -> None:
        drifted = compare_columns(reference, current, features)
        estimate_performance(current["probability"], current["subject_id"], 0.1, seed=0)
        shown = drifted["column"].head(SHOWN).tolist()
        render_page([compare(average_by_patient(reference, shown), average_by_patient(current, shown), 1e-5)])

    def preset() -> None:
        frames = [Dataset.from_pandas(frame[features]) for frame in (current, reference)]
        Report([DataDriftPreset()]).run(*frames).get_html_str(as_iframe=False)

    return Section(
        "Drift: speed",
        f"{PREDICTIONS:,} predictions of {PATIENTS:,} patients x {FEATURES} features, and as many of training patients. Vigil "
        "tests all columns by patient, estimates performance with intervals, and writes the page in which Evidently draws the "
        "columns with the largest drift. Evidently runs its unchanged `DataDriftPreset()`, with its page.",
        ["", "Vigil", "Evidently's default preset", "ratio"],
        [["assess the log and write the page", *in_turn(assess, preset, ROUNDS).cells]],
    )


def _log(seed: int) -> pd.DataFrame:
    """Return the hours of patients, correlated within each patient, with some values missing."""
    rng = np.random.default_rng(seed)
    patient = np.sort(rng.integers(0, PATIENTS, PREDICTIONS))
    values = rng.normal(size=(PATIENTS, FEATURES))[patient] + rng.normal(size=(PREDICTIONS, FEATURES))
    values[rng.random(values.shape) < 0.05] = np.nan
    frame = pd.DataFrame(values.astype(np.float32), columns=[f"f{number}" for number in range(FEATURES)])
    return frame.assign(
        probability=rng.beta(1, 20, PREDICTIONS), subject_id=patient, day=0, hour=rng.integers(0, 24, PREDICTIONS)
    )
