"""The leaderboard of a search: what was found beside defaults and baselines, on patients that the search did not see."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd

from vigil.models.evaluation.discrimination import measure_discrimination, resample_discrimination
from vigil.models.search.trials import Float64, losses
from vigil.models.statistics.bootstrap import Resamples, percentile_bounds

MEASURES: Final = ("log_loss", "auprc", "auroc")


def build_leaderboard(
    on_folds: tuple[pd.DataFrame, Mapping[str, Float64]],
    unseen: tuple[pd.DataFrame, Mapping[str, Float64]],
    default: str,
    seed: int,
) -> pd.DataFrame:
    """Compare models, the best on unseen patients first.

    Args:
        on_folds: rows (``subject_id, label``) that the search used, and the out-of-fold risks of each model.
        unseen: rows of patients that neither search nor models have seen, and the risks of each model.
        default: the model that the others are compared with.
        seed: of the resamples of patients, the same for all models, so that differences are paired.

    Returns:
        A row a model, by name. ``log_loss, auprc, auroc`` on the unseen patients, each with ``_low`` and ``_high``, the ends of
        the 95 % interval; ``gain_log_loss`` and ``gain_auprc``: by how much the model is better than the default, with
        intervals; the first three again as ``folds_...``. What was chosen on the folds looks better there than it is.
    """
    seen, new = _measure(*on_folds, default, seed), _measure(*unseen, default, seed)
    table = {
        name: {**new[name], **{f"folds_{key}": value for key, value in seen[name].items() if not key.startswith("gain_")}}
        for name in new
    }
    frame = pd.DataFrame.from_dict(table, orient="index").rename_axis("model")
    return frame.sort_values("log_loss", kind="stable")


def _measure(rows: pd.DataFrame, risks: Mapping[str, Float64], default: str, seed: int) -> dict[str, dict[str, Any]]:
    is_known = rows["label"].notna().to_numpy()
    label = rows["label"].to_numpy(np.float64)[is_known]
    resamples = Resamples.draw(rows.loc[is_known, "subject_id"], seed)
    drawn_rows = resamples.sums(np.ones_like(label))
    figures, draws = {}, {}
    for name, risk in risks.items():
        known = np.clip(risk[is_known], 1e-15, 1 - 1e-15)
        loss = losses(label, known)
        figures[name] = {"log_loss": float(loss.mean()), **measure_discrimination(label, known)}
        draws[name] = {
            "log_loss": resamples.sums(loss) / drawn_rows,
            **resample_discrimination(label, known, resamples),
        }
    return {
        name: {
            **{key: own[key] for key in MEASURES},
            **percentile_bounds({key: draws[name][key] for key in MEASURES}),
            "gain_log_loss": figures[default]["log_loss"] - own["log_loss"],
            "gain_auprc": own["auprc"] - figures[default]["auprc"],
            **percentile_bounds(
                {
                    "gain_log_loss": draws[default]["log_loss"] - draws[name]["log_loss"],
                    "gain_auprc": draws[name]["auprc"] - draws[default]["auprc"],
                }
            ),
        }
        for name, own in figures.items()
    }
