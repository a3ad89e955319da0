"""The alarms of the safety net minute by minute, compared with NEWS2 as nurses chart it at their rounds.

The protocol runs on the simulated ward, where devices have artefacts, gaps and late deliveries. The figures show the effect of
artefacts on a rule. They are no evidence about patients.
"""

from typing import Final

import numpy as np
import pandas as pd

from vigil.features.batch import KEYS, build_features
from vigil.features.declarations import OWN_UNITS
from vigil.features.observations import TIME, check
from vigil.models.alarms.budget import summarise_alarms
from vigil.models.alarms.timeline import AlarmTimeline
from vigil.models.assessment import safety_net_scores, without_sustained_values
from vigil.models.seeds import SEED
from vigil.pipelines.challenges import PREDICTIONS, Benchmark
from vigil.pipelines.progress import track
from vigil.pipelines.sources import Batch
from vigil.pipelines.sources.simulated import SimulatedWard

_VIEWS: Final = ("scores", "patient", "safety_net")
_SEED: Final = 7  # the times of the net were chosen on the ward of the default seed, not on this one
_MINUTE: Final = pd.Timedelta(minutes=1)


def safety_net() -> Benchmark:
    """Count the alarms of the net over a simulated ward at every minute, and those of the chart at every round."""
    ward = SimulatedWard(seed=_SEED, patients_per_batch=20)
    replayed: dict[str, list[pd.DataFrame]] = {"chart at rounds": [], "chart each minute": [], "net each minute": []}
    days = 0.0
    for batch in track(ward.batches(), "assess each minute", len(ward)):
        accepted = check(batch.observations, declared=OWN_UNITS).accepted
        minutes = _score(batch, accepted, _index_minutes(batch))
        rounds = _score(batch, accepted, _index_rounds(batch))
        replayed["chart at rounds"].append(_as_on_paper(rounds))
        replayed["chart each minute"].append(_as_on_paper(minutes))
        replayed["net each minute"].append(minutes)
        before_onset = minutes["onset"].isna() | (minutes["index_time"] < minutes["onset"])
        days += float(before_onset.sum()) * (_MINUTE / pd.Timedelta(days=1))
    metrics = {name: _compute_figures(pd.concat(frames), days) for name, frames in replayed.items()}
    facts = {"protocol": "net", "simulated": True, "stays": int(pd.concat(replayed["net each minute"])["subject_id"].nunique())}
    return Benchmark(metrics, pd.DataFrame(columns=list(PREDICTIONS)), facts)


def _compute_figures(frame: pd.DataFrame, days: float) -> dict[str, float]:
    """Return the alarms of a score alone. The patient-days are those of the minutes, also where a score is read less often."""
    watch = AlarmTimeline.from_frame(frame.assign(probability=-np.inf))
    figures = summarise_alarms(watch.count(np.inf), seed=SEED)
    scale = figures["patient_days"] / days  # summary() counts an index step for each row
    rates = {name: value * scale for name, value in figures.items() if name.startswith("alarms_per_patient_day")}
    return figures | rates | {"patient_days": days}


def _as_on_paper(scored: pd.DataFrame) -> pd.DataFrame:
    """Let every charted value count at once."""
    return scored.assign(net_score=scored["chart"], net_spot=scored["chart"])


def _score(batch: Batch, accepted: pd.DataFrame, index: pd.DataFrame) -> pd.DataFrame:
    """Return the NEWS2 of the chart and of the net at each index time, with the onset of the stay."""
    rows = build_features(accepted, index, _VIEWS)
    onsets = batch.outcomes.set_index("subject_id")["onset"]
    return rows[KEYS].assign(
        chart=safety_net_scores(without_sustained_values(rows))["net_score"],
        **safety_net_scores(rows),
        onset=rows["subject_id"].map(onsets).astype(TIME),
        onset_known=True,
    )


def _index_minutes(batch: Batch) -> pd.DataFrame:
    """Return an index time at every minute of every stay."""
    stays = batch.stays.sort_values("subject_id", kind="stable")
    steps = (stays["end"] - stays["start"]).to_numpy("timedelta64[m]").astype(np.int64) + 1
    index = stays.take(np.repeat(np.arange(len(stays)), steps)).reset_index(drop=True)
    minute = np.arange(len(index)) - np.repeat(np.cumsum(steps) - steps, steps)
    return index.assign(index_time=(index["start"] + minute * _MINUTE.as_unit("us")).astype(TIME))


def _index_rounds(batch: Batch) -> pd.DataFrame:
    """Return an index time at every round, when the values that nurses charted have reached the record."""
    charted = batch.observations[batch.observations["signal"] == "on_oxygen"]
    written = charted.groupby(["subject_id", "observed_at"], observed=True)["recorded_at"].min().reset_index()
    index = batch.stays.merge(written, on="subject_id", how="inner").rename(columns={"recorded_at": "index_time"})
    return index.drop_duplicates(KEYS)
