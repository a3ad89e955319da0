"""Hypoglycaemia within 30 and 60 minutes on continuous glucose monitors, on people from whom no model has learned.

Index times are readings of 70 mg/dL or more. One is positive if a reading below 70 follows within the horizon. Left out are
times whose horizon holds no reading, and those within 30 minutes after a reading below 70. Everything is chosen on the training
sets: models, calibration and the threshold, at which four of five episodes there have an alarm. Persons are never in both.

The limit of 70 mg/dL is level 1 hypoglycaemia: Battelino T, et al. Clinical targets for continuous glucose monitoring data
interpretation. Diabetes Care 2019;42:1593-1603.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from vigil.models.evaluation.discrimination import resample_discrimination
from vigil.models.seeds import SEED
from vigil.models.statistics.bootstrap import Resamples, percentile_interval
from vigil.models.training.risk_model import RiskModel
from vigil.pipelines.challenges import PREDICTIONS, Benchmark, BenchmarkError
from vigil.pipelines.challenges.cgm_features import LAGS, MINUTE, Glucose, compute_features, read_glucose
from vigil.pipelines.progress import timed_step, track
from vigil.pipelines.sources.cgm import read_cgm_set

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

LOW: Final = 70.0  # mg/dL
HORIZONS: Final = (30, 60)  # minutes
RECALL: Final = 0.8  # of the episodes of the training sets, at the frozen threshold; ours
DEFAULT: Final = "all_signals"  # what benchmarks call the default model

_RECOVERY: Final = 30 * MINUTE  # after a low reading a prediction comes too late
_SILENCE: Final = 30 * MINUTE  # between two alarms; ours
_LONGEST_GAP: Final = 60 * MINUTE  # between readings; a longer one is not monitored time
_FOLDS: Final = 5
_EVERY: Final = 3  # readings of five minutes are alike: of three, the default learns from one
_DAY: Final = 24 * 60 * MINUTE

# Chosen by leaving sets out (docs/models.md).
_LEARNER: Final[Mapping[str, Any]] = {
    "n_estimators": 300, "learning_rate": 0.05, "num_leaves": 24, "min_child_samples": 200, "colsample_bytree": 0.4,
    "subsample": 0.7, "subsample_freq": 1, "reg_lambda": 10.0, "max_bin": 127,
}  # fmt: skip


@dataclass(frozen=True)
class CgmSet:
    """Some persons: their readings, and the features of each."""

    glucose: Glucose
    features: pd.DataFrame

    @property
    def name(self) -> str:
        """The name of the set."""
        return self.glucose.subjects[0].partition("/")[0]

    @property
    def persons(self) -> NDArray[np.int64]:
        """The number of the person of each reading."""
        return np.repeat(np.arange(len(self.glucose.subjects)), np.diff(self.glucose.bounds))


@dataclass(frozen=True)
class Question:
    """What is asked of a set with one horizon.

    Attributes:
        is_asked: whether a reading is an index time, shape (n_readings,).
        label: whether a reading below 70 follows.
        onsets: positions of the readings that begin an episode: a low one, without another in the 30 minutes before.
    """

    is_asked: Bool
    label: Bool
    onsets: NDArray[np.int64]


def cgm(train: list[Path], test: list[Path]) -> Benchmark:
    """Train on some sets, and score others. Without others, each set is left out in turn.

    Args:
        train: archives of the training sets.
        test: those of the test sets.

    Raises:
        BenchmarkError: a set is in both, or there is one alone.
        SourceError: a set cannot be read.
    """
    if both := {path.resolve() for path in train} & {path.resolve() for path in test}:
        raise BenchmarkError(f"--test {min(both).name}: is in both; expected sets that are not learned from")
    if not test and len(train) < 2:
        raise BenchmarkError("--test is missing: expected one, or several training sets, of which each is left out in turn")
    sets = {path: _read(path) for path in track([*train, *test], "read the sets", len(train) + len(test))}
    turns = [(train, test)] if test else [([path for path in train if path != left], [left]) for left in train]
    metrics: dict[str, dict[str, float]] = {}
    scored: list[pd.DataFrame] = []
    for horizon in HORIZONS:
        for learned, judged in turns:
            fitted = {name: _fit(name, [sets[path] for path in learned], horizon) for name in MODELS}
            for own, (name, model) in product([sets[path] for path in judged], fitted.items()):
                figures, rows = _judge(model, own, horizon)
                title = f"{own.name}_{horizon}m"
                metrics.setdefault(name, {}).update({f"{title}_{figure}": value for figure, value in figures.items()})
                scored.append(rows.assign(model=name, horizon_minutes=horizon))
    facts = {"protocol": "cgm", "seed": SEED, "recall_on_training": RECALL, "left_out_in_turn": not test}
    columns = [*PREDICTIONS, "horizon_minutes"]
    return Benchmark(metrics, pd.concat(scored, ignore_index=True)[columns], facts)


def _read(path: Path) -> CgmSet:
    glucose = read_glucose(read_cgm_set(path))
    return CgmSet(glucose, compute_features(glucose))


def ask(glucose: Glucose, horizon: int) -> Question:
    """Return what is asked of readings, with a horizon in minutes.

    >>> minutes = np.array([0, 5, 10, 15, 50]) * MINUTE
    >>> one = Glucose(["p"], np.array([0, 5]), minutes, np.array([90.0, 80.0, 65.0, 75.0, 90.0]))
    >>> asked = ask(one, 30)
    >>> asked.is_asked.tolist(), asked.label.tolist(), asked.onsets.tolist()
    ([True, True, False, False, False], [True, True, False, False, False], [2])
    """
    is_asked, label = np.zeros(len(glucose.time), dtype=bool), np.zeros(len(glucose.time), dtype=bool)
    onsets = []
    for person in range(len(glucose.subjects)):
        rows = glucose.person(person)
        time, is_low = glucose.time[rows], glucose.value[rows] < LOW
        last = np.searchsorted(time, time + horizon * MINUTE, side="right")
        number_low = np.concatenate([[0], np.cumsum(is_low)])
        now = np.arange(1, len(time) + 1)
        label[rows] = number_low[last] > number_low[now]
        since = _since_low(time, is_low)
        is_asked[rows] = ~is_low & (last > now) & ~(since <= _RECOVERY)
        onsets.append(rows.start + np.flatnonzero(is_low & ~(_since_low(time, is_low, before=True) <= _RECOVERY)))
    return Question(is_asked, label & is_asked, np.concatenate(onsets))


def _since_low(time: NDArray[np.int64], is_low: Bool, *, before: bool = False) -> Float64:
    """Return the microseconds since the last low reading, itself included unless ``before``; infinite: there was none."""
    last = np.maximum.accumulate(np.where(is_low, np.arange(len(time)), -1))
    if before:
        last = np.concatenate([[-1], last[:-1]])
    return np.where(last >= 0, time - time[np.maximum(last, 0)], np.inf)


@dataclass(frozen=True)
class _Fitted:
    """A model and its frozen threshold."""

    model: RiskModel
    threshold: float


def _fit(name: str, sets: Sequence[CgmSet], horizon: int) -> _Fitted:
    """Fit a model, and choose its threshold on risks that its members give to people from whom they have not learned."""
    asked = [ask(own.glucose, horizon) for own in sets]
    frame = pd.concat([own.features[question.is_asked] for own, question in zip(sets, asked, strict=True)], ignore_index=True)
    label = np.concatenate([question.label[question.is_asked] for question in asked]).astype(np.float64)
    names = [np.array(own.glucose.subjects, dtype=object)[own.persons] for own in sets]
    persons = np.concatenate([own[question.is_asked] for own, question in zip(names, asked, strict=True)])
    learned = label.copy()
    if name == DEFAULT:
        learned[np.arange(len(label)) % _EVERY != 0] = np.nan
    model = MODELS[name](horizon, list(frame.columns))
    with timed_step(f"{horizon} min: fit {name}"):
        risk = model.cross_fit(frame, learned, pd.Series(persons))
    risks = np.split(risk, np.cumsum([question.is_asked.sum() for question in asked])[:-1])
    best = [
        _best_before(own.glucose, question, _on_readings(part, question), horizon)
        for own, question, part in zip(sets, asked, risks, strict=True)
    ]
    return _Fitted(model, _threshold_at(RECALL, np.concatenate(best)))


def _threshold_at(recall: float, best: Float64) -> float:
    """Return the threshold at which that share of episodes is found, of which these are the highest risks before them."""
    return float(np.quantile(best, 1 - recall, method="lower"))


def _on_readings(risk: Float64, question: Question) -> Float64:
    """Return risks of index times as an array of all readings; NaN at the others."""
    full = np.full(len(question.is_asked), np.nan)
    full[question.is_asked] = risk
    return full


def _best_before(glucose: Glucose, question: Question, risk: Float64, horizon: int) -> Float64:
    """Return the highest risk within the horizon before each episode, at which a threshold finds it; 0: nothing was asked."""
    time = _along(glucose)
    first = np.searchsorted(time, time[question.onsets] - horizon * MINUTE)
    return np.array([np.nanmax([0.0, *risk[start:onset]]) for start, onset in zip(first, question.onsets, strict=True)])


def _along(glucose: Glucose) -> NDArray[np.int64]:
    """Return times in which the persons follow each other, far apart, so that one search finds the readings of each."""
    time = glucose.time - glucose.time.min()
    person = np.repeat(np.arange(len(glucose.subjects)), np.diff(glucose.bounds))
    return np.asarray(time + person * (int(time.max()) + _DAY))


def _judge(fitted: _Fitted, own: CgmSet, horizon: int) -> tuple[dict[str, float], pd.DataFrame]:
    """Return the figures of a model on a set that it has not seen, and its risk at each index time."""
    glucose, question = own.glucose, ask(own.glucose, horizon)
    asked = question.is_asked
    risk = fitted.model.risk(own.features[asked])
    label = question.label[asked].astype(np.float64)
    names = np.array(glucose.subjects, dtype=object)[own.persons[asked]]
    draws = resample_discrimination(label, risk, Resamples.draw(names, SEED))
    figures = {"prevalence": float(label.mean()), "index_times": float(len(label)), "auroc": float(roc_auc_score(label, risk))}
    figures["auprc"] = float(average_precision_score(label, risk))
    for name in ("auroc", "auprc"):
        figures[f"{name}_low"], figures[f"{name}_high"] = percentile_interval(draws[name])
    on_readings = _on_readings(risk, question)
    figures |= count_alarms(glucose, question, on_readings >= fitted.threshold, horizon)
    if len(question.onsets):  # by what the set itself tells, so that models can be compared; no threshold could know it
        same = _threshold_at(RECALL, _best_before(glucose, question, on_readings, horizon))
        at_same = count_alarms(glucose, question, on_readings >= same, horizon)
        figures["alarms_per_day_at_same_recall"] = at_same["alarms_per_day"]
    rows = pd.DataFrame(
        {
            "subject_id": names,
            "index_time": pd.to_datetime(glucose.time[asked], unit="us", utc=True),
            "probability": risk,
            "alarm": risk >= fitted.threshold,
        }
    )
    return figures, rows


def count_alarms(glucose: Glucose, question: Question, is_high: Bool, horizon: int) -> dict[str, float]:
    """Return alarms a day of monitoring, the share of episodes with an alarm before them, and how long before.

    An alarm sounds at a time of high risk, and the next one half an hour later at the earliest.

    Args:
        glucose, question: of a set.
        is_high: whether the risk at a reading is at or above the threshold.
        horizon: within which an alarm counts for an episode, minutes.
    """
    time = _along(glucose)
    alarms: list[int] = []
    for row in np.flatnonzero(is_high):
        if not alarms or time[row] - time[alarms[-1]] >= _SILENCE:
            alarms.append(int(row))
    passed = np.diff(time)
    days = passed[passed <= _LONGEST_GAP].sum() / _DAY
    sounded = time[np.array(alarms, dtype=np.int64)]
    onsets = time[question.onsets]
    first = np.searchsorted(sounded, onsets - horizon * MINUTE)
    is_found = first < np.searchsorted(sounded, onsets)
    warned = (onsets[is_found] - sounded[first[is_found]]) / MINUTE
    return {
        "episodes": float(len(onsets)),
        "recall": float(is_found.mean()) if len(onsets) else float("nan"),
        "alarms_per_day": float(len(alarms) / days),
        "warning_minutes": float(np.median(warned)) if len(warned) else float("nan"),
    }


def _linear(column: str) -> Callable[[int, list[str]], RiskModel]:
    """Return how to make a model of one column, by which a baseline becomes a probability. Its ranks stay as they are."""

    def make(horizon: int, _: list[str]) -> RiskModel:
        return RiskModel(LogisticRegression(), [column.format(horizon=horizon)], folds=_FOLDS, seed=SEED)

    return make


def _trees(settings: Mapping[str, Any], features: Sequence[str] | None) -> Callable[[int, list[str]], RiskModel]:
    def make(_: int, known: list[str]) -> RiskModel:
        learner = lightgbm.LGBMClassifier(**settings, n_jobs=1, verbosity=-1, deterministic=True, force_row_wise=True)
        return RiskModel(learner, list(features or known), folds=_FOLDS, seed=SEED)

    return make


# The default first; then LightGBM as it comes on the last twenty readings, and what needs no model.
MODELS: Final[Mapping[str, Callable[[int, list[str]], RiskModel]]] = {
    DEFAULT: _trees(_LEARNER, None),
    "lags": _trees({}, ("value", *LAGS)),
    "line": _linear("line_{horizon}m"),
    "value": _linear("value"),
}
