"""An Evidently report of logged features and predictions against the training reference, and a verdict for a scheduler."""

import io
import json
import warnings
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset

from features.errors import VigilError
from pipelines.results import write_json

PREDICTION: Final = "probability"
DRIFT_SHARE: Final = 0.3  # of the columns, from which the data as a whole are called drifted
MIN_ROWS: Final = 30
_LARGE: Final = 1000  # rows on both sides from which a distance is judged: p-values would flag trifles, below it noise


class NotEnoughPredictionsError(VigilError):
    """Too few predictions were logged to compare."""


class Status(IntEnum):
    """What an operator's scheduler needs: the exit status of ``vigil drift``. 2 (broken) is any error."""

    FINE = 0
    DRIFT = 1


@dataclass(frozen=True)
class Drift:
    """Outcome of a comparison.

    Attributes:
        status: :attr:`Status.DRIFT` if the predictions drifted, or at least :data:`DRIFT_SHARE` of the columns did.
        share: of the columns that drifted.
        prediction_drifted: whether the predicted probability did.
        drifted: columns that drifted, most first.
        vanished, appeared: columns with values in only the reference, or only now; they count as drifted.
        method, threshold: how a column was judged.
        reference_rows, current_rows: what was compared.
    """

    status: Status
    share: float
    prediction_drifted: bool
    drifted: list[str]
    vanished: list[str]
    appeared: list[str]
    method: str
    threshold: float
    reference_rows: int
    current_rows: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the status by its name."""
        return {**asdict(self), "status": self.status.name.lower()}


def drift_report(reference: pd.DataFrame, current: pd.DataFrame, folder: Path, *, note: str) -> Drift:
    """Compare two frames of features and ``probability``; write ``drift.html`` and ``drift.json`` into the folder.

    Args:
        reference, current: the same columns; a row is one patient at one time.
        folder: where the reports go.
        note: one line shown at the top of the page, such as what the data are.

    Raises:
        NotEnoughPredictionsError: fewer than :data:`MIN_ROWS` rows to compare.
    """
    if len(current) < MIN_ROWS:
        raise NotEnoughPredictionsError(
            f"prediction log: {len(current)} predictions of this model version, expected at least {MIN_ROWS}; "
            "score more patients first (vigil predict, or requests to the API)"
        )
    in_reference, in_current = _columns_with_values(reference), _columns_with_values(current)
    both = [column for column in in_reference if column in in_current]
    vanished = [column for column in in_reference if column not in in_current]
    appeared = [column for column in in_current if column not in in_reference]
    large = min(len(reference), len(current)) >= _LARGE
    # A large sample: distance in standard deviations. A small one: Kolmogorov-Smirnov, strict for there are many columns.
    method, threshold = ("wasserstein", 0.1) if large else ("ks", 0.01)
    definition = DataDefinition(numerical_columns=both)
    report = Report([DataDriftPreset(columns=both, drift_share=DRIFT_SHARE, num_method=method, num_threshold=threshold)])
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        snapshot = report.run(Dataset.from_pandas(current[both], definition), Dataset.from_pandas(reference[both], definition))
        result = json.loads(snapshot.json())
        snapshot.save_html(str(folder / "drift.html"))
    values = {m["config"]["column"]: float(m["value"]) for m in result["metrics"] if "column" in m["config"]}
    drifted = sorted(
        (column for column, value in values.items() if (value >= threshold if large else value < threshold)),
        key=lambda column: -values[column] if large else values[column],
    )
    drifted = [*vanished, *appeared, *drifted]
    share = len(drifted) / (len(both) + len(vanished) + len(appeared))
    prediction_drifted = PREDICTION in drifted
    drift = Drift(
        status=Status.DRIFT if prediction_drifted or share >= DRIFT_SHARE else Status.FINE,
        share=share,
        prediction_drifted=prediction_drifted,
        drifted=drifted,
        vanished=vanished,
        appeared=appeared,
        method=method,
        threshold=threshold,
        reference_rows=len(reference),
        current_rows=len(current),
    )
    _put_on_top(folder / "drift.html", f"{note} Status: {drift.status.name.lower()}; {share:.0%} of the columns drifted.")
    write_json(folder / "drift.json", {"vigil": drift.as_dict(), "evidently": result})
    return drift


def _columns_with_values(frame: pd.DataFrame) -> list[str]:
    return [str(column) for column in frame if frame[column].notna().any()]


def _put_on_top(page: Path, note: str) -> None:
    html = page.read_text(encoding="utf-8")
    start = html.index(">", html.index("<body")) + 1
    banner = f'<p style="font-family: sans-serif; padding: 8px 16px; margin: 0; background: #fff3cd">{note}</p>'
    page.write_text(html[:start] + banner + html[start:], encoding="utf-8")
