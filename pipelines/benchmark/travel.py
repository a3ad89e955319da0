"""What breaks in another unit or hospital: each unit left out in turn, and a model of one hospital scored on many others.

A unit's AUROC when it was learned from (five-fold by patient) stands beside that of members which have seen no patient of it,
one member a patient in both, so that averaging favours neither. Alarms sound at the threshold that costs half an alarm a
patient-day on the patients trained on; how many it costs in the unit left out is what a new ward would notice first.
Figures named ``own_...`` are those of thresholds that the place sets for the same budget on its own risks, without labels.
"Other habits", "late start" and "last set alone" are the ways of :mod:`models.habits`: the same patients, measured less and by
other habits, or known for some hours or by one set of readings only. Mean risk beside prevalence is their level.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from features.catalogue import SERVICES, reflecting
from models.cohort import LABELLED, folds
from models.evaluation.alarms import Watch, count_where, threshold_at_budget, threshold_without_labels
from models.evaluation.bootstrap import Resamples, percentile
from models.evaluation.calibration import calibration
from models.evaluation.discrimination import discrimination, discrimination_draws
from models.habits import Augmented, Way
from models.risk_model import RiskModel, from_log_odds
from models.tasks import TASKS
from models.variants import AS_MEASURED, CLOCK, DEFAULT, learned, trees
from pipelines.benchmark import PREDICTIONS, Benchmark, BenchmarkError, predictions
from pipelines.benchmark.frames import read, read_augmented
from pipelines.progress import track, working
from pipelines.sources.cinc2012 import Cinc2012
from pipelines.sources.cinc2019 import Cinc2019
from pipelines.sources.eicu_demo import EicuDemo
from pipelines.train import SEED

OWN_HABITS: Final = f"{DEFAULT}, own habits only"  # the default, had it learned from rows as measured alone
_AS_MEASURED: Final = AS_MEASURED | {OWN_HABITS}
_TITLES: Final[Mapping[Way, str]] = {"other_habits": "other habits", "late_start": "late start", "last_set": "last set alone"}

QUIET_HOURS: Final = 30_000  # that a member learns from: half as many as elsewhere, since a study fits many members
# Alarms a patient-day that a threshold may cost. Ours, and frozen: the study judges the model alone, while a task's promise
# counts the alarms of the safety net too.
_ALLOWED: Final = 0.5

Figures = dict[str, float]


def travel2019(train: Path, test: Path | None) -> Benchmark:
    """Units of the 2019 challenge left out in turn, parts of the stay, and (``test``: its folder) the eICU demo."""
    task = TASKS["sepsis"]
    service = list(SERVICES[task.feature_service])
    training, augmented = read_augmented(Cinc2019(train), service, "training set")
    elsewhere = {}
    if test is not None:
        elsewhere = {f"eicu {kind}": read(EicuDemo(test, kind), service, f"eICU, {kind}") for kind in ("sepsis", "aki")}
    return _study(
        "travel2019", training, augmented, _sets(service), hourly=True, elsewhere=elsewhere, parts=_parts_of_stay(training)
    )


def travel2012(train: Path, test: Path | None) -> Benchmark:
    """The four kinds of intensive care of the 2012 challenge left out in turn; ``test``: another set to score as well."""
    service = list(SERVICES[TASKS["mortality"].feature_service])
    training, augmented = read_augmented(Cinc2012(train), service, "training set")
    elsewhere = {} if test is None else {"test set": read(Cinc2012(test), service, "test set")}
    return _study("travel2012", training, augmented, _sets(service), hourly=False, elsewhere=elsewhere, parts={})


def _sets(service: list[str]) -> dict[str, list[str]]:
    """What a model may know: which of it travels?"""
    physiology, service = set(reflecting("physiology")), learned(service)
    return {
        DEFAULT: service,
        OWN_HABITS: service,
        "physiology and hours": [name for name in service if name in physiology or name == "hours_in_unit"],
        "clock": [name for name in CLOCK if name in service],
    }


def _parts_of_stay(frame: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Hours of stays by what a hospital's habits may hang on; those before the end are known in retrospect only."""
    since = (frame["index_time"] - frame["start"]).dt.total_seconds() / 3600
    until = (frame["end"] - frame["index_time"]).dt.total_seconds() / 3600
    before = frame["hours_in_hospital_before"]
    return {
        "first 12 h": (since < 12).to_numpy(),
        "12 to 48 h": since.between(12, 48, inclusive="left").to_numpy(),
        "after 48 h": (since >= 48).to_numpy(),
        "last 12 h, in retrospect": (until < 12).to_numpy(),
        "came to hospital less than 6 h before": (before < 6).to_numpy(),
        "6 to 48 h before": before.between(6, 48, inclusive="left").to_numpy(),
        "more than 48 h before": (before >= 48).to_numpy(),
    }


def _study(
    name: str,
    training: pd.DataFrame,
    augmented: Sequence[Augmented],
    sets: Mapping[str, list[str]],
    *,
    hourly: bool,
    elsewhere: Mapping[str, pd.DataFrame],
    parts: Mapping[str, NDArray[np.bool_]],
) -> Benchmark:
    metrics: dict[str, Figures] = {}
    scored = {}
    unit = training["unit"].fillna("not stated").to_numpy(object)
    both = training.groupby(unit)["label"].nunique() == 2
    if silent := [place for place, frame in elsewhere.items() if frame["label"].nunique() < 2]:
        raise BenchmarkError(f"{silent[0]}: events, or hours without one, are missing; expected both to judge a model by")
    for variant, features in sets.items():
        model = trees(features, hourly=hourly, seed=SEED).set_params(repeats=1)
        if hourly:
            model.set_params(most_negatives=QUIET_HOURS)
        ways = () if variant in _AS_MEASURED else augmented
        with working(f"{variant}: all units"):
            risk = model.cross_fit(training, training["label"], training["subject_id"], ways)
        threshold = _threshold(training, risk) if hourly else float("nan")
        metrics[f"{variant}: five-fold"] = _figures(training, risk, threshold)
        metrics |= {f"{variant}: {way}": found for way, found in _other_ways(model, training, augmented, threshold).items()}
        judged = {part: rows for part, rows in parts.items() if training.loc[rows, "label"].nunique() == 2}
        for part, rows in judged.items():
            metrics[f"{variant}: {part}"] = _figures(training[rows], risk[rows], float("nan"))
        for place, frame in elsewhere.items():
            found = model.risk(frame)
            metrics[f"{variant}: {place}"] = _figures(frame, found, threshold)
            scored[f"{variant}: {place}"] = frame[LABELLED].assign(probability=found, alarm=found >= threshold)
        for left_out in track(both.index[both], f"{variant}: units left out", int(both.sum())):
            metrics[f"{variant}: without {left_out}"] = _left_out(model, training, ways, risk, unit == left_out, hourly=hourly)
    about = {"protocol": name, "seed": SEED, "training_stays": int(training["subject_id"].nunique())}
    if not both.all():
        about["units_without_both_outcomes"] = ", ".join(both.index[~both])
    return Benchmark(metrics, predictions(scored) if scored else pd.DataFrame(columns=list(PREDICTIONS)), about)


def _left_out(
    model: RiskModel,
    training: pd.DataFrame,
    augmented: Sequence[Augmented],
    seen_risk: NDArray[np.float64],
    away: NDArray[np.bool_],
    *,
    hourly: bool,
) -> Figures:
    """The unit's figures when it was left out, beside its AUROC when it was learned from."""
    others, unit = training[~away], training[away]
    visiting = clone(model)
    risk = visiting.cross_fit(others, others["label"], others["subject_id"], [way.among(~away) for way in augmented])
    threshold = _threshold(others, risk) if hourly else float("nan")
    label = unit["label"].to_numpy(np.float64)
    seen = float(roc_auc_score(label, seen_risk[away]))
    margins = np.stack([member.margin(unit) for member in _one_member_each(visiting)])
    alone = float(np.mean([roc_auc_score(label, margin) for margin in margins]))
    found = _figures(unit, from_log_odds(margins.mean(axis=0)), threshold)  # a model's margin is the mean of its members'
    return {**found, "auroc_seen": seen, "auroc_one_member": alone, "auroc_loss": seen - alone}


def _other_ways(
    model: RiskModel, training: pd.DataFrame, augmented: Sequence[Augmented], threshold: float
) -> dict[str, Figures]:
    """Figures of the same patients known in other ways, by members that have not seen them.

    Cut records are some hours of a stay, in which no alarm can be counted as it would sound.
    """
    found = {}
    for way in augmented:
        rows = training.iloc[way.rows]
        if rows["label"].nunique() == 2:
            whole = threshold if way.way == "other_habits" else float("nan")
            found[_TITLES[way.way]] = _figures(rows, _unseen(model, training, way), whole)
    return found


def _unseen(model: RiskModel, training: pd.DataFrame, way: Augmented) -> NDArray[np.float64]:
    """The risk of each row known in another way, by the member that has not seen its patient."""
    fold = folds(training["subject_id"], training["label"].to_numpy() == 1, model.folds, seed=model.seed)[way.rows]
    risk = np.empty(len(fold))
    for left_out, member in enumerate(_one_member_each(model)):
        risk[fold == left_out] = member.risk(way.features[fold == left_out])
    return risk


def _one_member_each(model: RiskModel) -> Iterator[RiskModel]:
    """The model as each of its folds' members alone: what gave every out-of-fold risk."""
    for member in range(len(model.members_[0])):
        alone = copy.copy(model)
        alone.members_ = [view[member : member + 1] for view in model.members_]
        yield alone


def _threshold(frame: pd.DataFrame, risk: NDArray[np.float64]) -> float:
    return threshold_at_budget(Watch.of(frame[LABELLED].assign(probability=risk)), _ALLOWED)


def _own_alarms(scored: pd.DataFrame) -> Figures:
    """What sounds here when the place sets its threshold itself: on one half of its patients, counted on the other, in turn."""
    half = folds(scored["subject_id"], np.zeros(len(scored), dtype=bool), 2, seed=SEED)  # nobody's outcome is looked at
    threshold = np.array([threshold_without_labels(scored[half != counted], _ALLOWED) for counted in (0, 1)])
    found = count_where(scored, scored["probability"].to_numpy() >= threshold[half]).figures()
    return {f"own_{name}": value for name, value in found.items()}


def _figures(frame: pd.DataFrame, risk: NDArray[np.float64], threshold: float) -> Figures:
    """AUROC with its interval, AUPRC, level, calibration; with a threshold also its alarms here, and an own one's."""
    label = frame["label"].to_numpy(np.float64)
    low, high = percentile(discrimination_draws(label, risk, Resamples.of(frame["subject_id"], SEED))["auroc"])
    found = {**discrimination(label, risk), "auroc_low": low, "auroc_high": high, **calibration(label, risk)}
    found["mean_risk"] = float(risk.mean())
    if np.isfinite(threshold):
        scored = frame[LABELLED].assign(probability=risk)
        found |= Watch.of(scored).count(threshold).figures() | _own_alarms(scored)
    return found
