"""Synthetic patients and risks with known properties."""

import numpy as np
import pandas as pd

from vigil.models.evaluation.comparison import Candidate, EvaluationSet
from vigil.models.evaluation.subgroups import assign_groups

T0 = pd.Timestamp("2026-03-01T00:00:00Z").as_unit("us")
HOUR = pd.Timedelta(hours=1)


def logistic(margin):
    return 1 / (1 + np.exp(-margin))


def ward(patients=120, hours=30, seed=0, identifier="canary-{:05}"):
    """Return index times with labels of a 12 h horizon, the stay of each row, and log-odds that are higher before an event."""
    generator = np.random.default_rng(seed)
    stay = np.arange(patients).repeat(hours)
    hour = np.tile(np.arange(hours), patients)
    onset = np.where(generator.random(patients) < 0.4, generator.integers(4, hours, patients), -1)[stay]
    rows = pd.DataFrame({"subject_id": [identifier.format(n) for n in stay]})
    rows["index_time"] = T0 + pd.to_timedelta(hour, unit="h")
    rows["onset"] = (T0 + pd.to_timedelta(np.maximum(onset, 0), unit="h") + HOUR / 2).where(onset >= 0)
    rows[["index_time", "onset"]] = rows[["index_time", "onset"]].astype("datetime64[us, UTC]")
    rows["onset_known"] = True
    ahead = onset - hour
    rows["label"] = np.where(onset < 0, 0.0, np.where(ahead < 0, np.nan, ahead < 12))
    margin = generator.normal(-2.5, 0.8, patients)[stay] + generator.normal(0, 0.6, len(stay))
    margin += np.where((onset >= 0) & (ahead >= 0) & (ahead < 12), 2.0, 0.0)
    stays = pd.DataFrame(
        {
            "start": T0,
            "end": T0 + hours * HOUR,
            "age": generator.uniform(20, 95, patients)[stay],
            "sex": generator.integers(0, 2, patients)[stay].astype(float),
            "unit": np.array(["medicine", "surgery", None], dtype=object)[generator.integers(0, 3, patients)[stay]],
        }
    )
    return rows, pd.concat([rows, stays], axis=1), margin


def held_out(models=("all_signals", "physiology", "workflow", "clock", "logistic", "news2"), seed=1, once=False, **kwargs):
    """Return an evaluation set with several models, each noisier than the one before."""
    rows, stays, margin = ward(seed=seed, **kwargs)
    if once:
        first_rows = (~rows["subject_id"].duplicated()).to_numpy()
        rows, stays, margin = (
            rows[first_rows].reset_index(drop=True),
            stays[first_rows].reset_index(drop=True),
            margin[first_rows],
        )
        rows["label"] = rows["onset"].notna().astype(float)
    generator = np.random.default_rng(seed)
    news2 = np.clip(np.rint(3 + 1.5 * (margin + 2) + generator.normal(0, 1.5, len(margin))), 0, 20)
    candidates = {}
    for noise, name in enumerate(models):
        risk = (
            logistic(-4 + 0.4 * news2) if name == "news2" else logistic(margin + generator.normal(0, 0.6 * noise, len(margin)))
        )
        limits = (risk * 0.8, np.minimum(risk * 1.2, 1)) if noise == 0 else (None, None)
        candidates[name] = Candidate(risk, float(np.quantile(risk, 0.9)), None, *limits)
    return EvaluationSet(rows, candidates, news2, assign_groups(stays), seed=3)
