"""What the safety net costs a ward: its alarms minute by minute, beside NEWS2 as nurses chart it at their rounds.

On the simulated ward, whose devices have artefacts, gaps and late deliveries. The figures say what an artefact does to a rule,
and nothing of patients.
"""

from typing import Final

import numpy as np
import pandas as pd

from features.batch import KEYS, build_features
from features.observations import TIME, check
from models.alarms.budget import summary
from models.alarms.timeline import Watch
from models.assessment import as_charted, net_of
from models.seeds import SEED
from pipelines.challenges import PREDICTIONS, Benchmark
from pipelines.progress import track
from pipelines.sources import Batch
from pipelines.sources.simulated import SimulatedWard

_VIEWS: Final = ("scores", "patient", "safety_net")
_SEED: Final = 7  # a ward on which none of the net's times was chosen: that was the default one
_MINUTE: Final = pd.Timedelta(minutes=1)


def safety_net() -> Benchmark:
    """Replay the net over a simulated ward at every minute, and the chart at every round."""
    ward = SimulatedWard(seed=_SEED, patients_per_batch=20)
    replayed: dict[str, list[pd.DataFrame]] = {"chart at rounds": [], "chart each minute": [], "net each minute": []}
    days = 0.0
    for batch in track(ward.batches(), "watch each minute", len(ward)):
        accepted = check(batch.observations).accepted
        minutes = _scored(batch, accepted, _minutes(batch))
        rounds = _scored(batch, accepted, _rounds(batch))
        replayed["chart at rounds"].append(_charted(rounds))
        replayed["chart each minute"].append(_charted(minutes))
        replayed["net each minute"].append(minutes)
        before = minutes["onset"].isna() | (minutes["index_time"] < minutes["onset"])
        days += float(before.sum()) * (_MINUTE / pd.Timedelta(days=1))
    metrics = {name: _figures(pd.concat(frames), days) for name, frames in replayed.items()}
    about = {"protocol": "net", "simulated": True, "stays": int(pd.concat(replayed["net each minute"])["subject_id"].nunique())}
    return Benchmark(metrics, pd.DataFrame(columns=list(PREDICTIONS)), about)


def _figures(frame: pd.DataFrame, days: float) -> dict[str, float]:
    """Alarms of a score alone, whenever it is looked at; days are those of the minutes for all."""
    watch = Watch.of(frame.assign(probability=-np.inf))
    found = summary(watch.count(np.inf), seed=SEED)
    scale = found["patient_days"] / days  # a row stands for an index step there
    rates = {name: value * scale for name, value in found.items() if name.startswith("alarms_per_patient_day")}
    return found | rates | {"patient_days": days}


def _charted(scored: pd.DataFrame) -> pd.DataFrame:
    """Every value counts at once, as on paper."""
    return scored.assign(net_score=scored["chart"], net_spot=scored["chart"])


def _scored(batch: Batch, accepted: pd.DataFrame, index: pd.DataFrame) -> pd.DataFrame:
    """The chart's NEWS2 and the net's at each index time, with the onset of the stay."""
    rows = build_features(accepted, index, _VIEWS)
    onsets = batch.outcomes.set_index("subject_id")["onset"]
    return rows[KEYS].assign(
        chart=net_of(as_charted(rows))["net_score"],
        **net_of(rows),
        onset=rows["subject_id"].map(onsets).astype(TIME),
        onset_known=True,
    )


def _minutes(batch: Batch) -> pd.DataFrame:
    stays = batch.stays.sort_values("subject_id", kind="stable")
    steps = (stays["end"] - stays["start"]).to_numpy("timedelta64[m]").astype(np.int64) + 1
    index = stays.take(np.repeat(np.arange(len(stays)), steps)).reset_index(drop=True)
    minute = np.arange(len(index)) - np.repeat(np.cumsum(steps) - steps, steps)
    return index.assign(index_time=(index["start"] + minute * _MINUTE.as_unit("us")).astype(TIME))


def _rounds(batch: Batch) -> pd.DataFrame:
    """When nurses had charted a round: what they wrote down has reached the record."""
    charted = batch.observations[batch.observations["signal"] == "on_oxygen"]
    written = charted.groupby(["subject_id", "observed_at"], observed=True)["recorded_at"].min().reset_index()
    index = batch.stays.merge(written, on="subject_id", how="inner").rename(columns={"recorded_at": "index_time"})
    return index.drop_duplicates(KEYS)
