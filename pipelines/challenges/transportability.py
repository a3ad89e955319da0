"""What is left of a model in another hospital, imitated within one cohort, and how models are chosen by it.

Every candidate (:mod:`pipelines.challenges.candidates`) is judged in four places. *Home*: five-fold by patient. *Changed
habits*: the same patients as a hospital of very different habits would have known them
(:func:`models.training.measurement_augmentation.changed_habits`),
by a draw that no model learns from, scored by members that have not seen them. *Units left out*: each unit in turn, by a model
that has seen no patient of it. *Both*: those units under those habits. The simplest candidate within one standard error of the
best in *both* is taken. No test set has a part in it.

Home and units left out hold all hours. Changed habits and both hold all hours before an event and a share of the others, drawn
at random, which leaves an AUROC what it is. Alarms sound at the threshold that costs half an alarm a patient-day on the
patients learned from; how many it costs in the unit left out is what a new ward would notice first. Figures named ``own_...``
are those of thresholds that the place sets for the same budget on its own risks, without labels.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

from features.catalogue import SERVICES
from models.alarms.timeline import Watch, count_where, threshold_at_budget, threshold_without_labels, watched
from models.cohort import LABELLED, folds
from models.evaluation.calibration import calibration
from models.evaluation.discrimination import discrimination, discrimination_draws
from models.evaluation.domain import judged
from models.seeds import SEED
from models.statistics.bootstrap import Resamples, percentile
from models.tasks import TASKS
from models.training.candidate_models import CLOCK, DEFAULT, DEFAULT_ONCE, trees
from models.training.measurement_augmentation import Augmented
from models.training.risk_model import RiskModel
from pipelines.challenges import PREDICTIONS, Benchmark, BenchmarkError, predictions
from pipelines.challenges.candidates import Candidate, behind_best, candidates, penalties, simplest_within_one_error
from pipelines.challenges.frames import read, read_compared
from pipelines.jobs.train import domain_of_use
from pipelines.progress import track, working
from pipelines.sources.cinc2012 import Cinc2012
from pipelines.sources.cinc2019 import Cinc2019
from pipelines.sources.eicu_demo import EicuDemo

QUIET_HOURS: Final = 20_000  # that a member learns from: fewer than elsewhere, since a study fits many members
VISITING_FOLDS: Final = 3  # of a model that is judged on a unit left out; five would take twice as long as all the rest
# Alarms a patient-day that a threshold may cost. Ours, and frozen: the study judges the model alone, while a task's promise
# counts the alarms of the safety net too.
_ALLOWED: Final = 0.5
# Hours of the stay by which AUROCs are told: a mean over all of them hides the early ones, which are few.
_HOURS: Final = ((0, 2), (2, 6), (6, 12), (12, 48), (48, None), (0, 12))
_CUT_RECORDS: Final = {"late_start": "late start", "last_set": "last set alone"}

Figures = dict[str, float]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Cohort:
    """What is learned from and judged on.

    Attributes:
        frame: rows as measured.
        ways: the same in other ways, to learn from.
        judging: the same by changed habits that no model learns from.
        unit: of each row of the frame.
        units: those that hold both outcomes.
        hourly: whether rows are hours of stays, or stays.
    """

    frame: pd.DataFrame
    ways: Sequence[Augmented]
    judging: Augmented
    unit: NDArray[np.object_]
    units: Sequence[str]
    hourly: bool

    @property
    def default(self) -> str:
        """Name of the variant that is registered."""
        return DEFAULT if self.hourly else DEFAULT_ONCE


@dataclass(frozen=True, eq=False)
class _Place:
    """Rows that a candidate is judged on.

    Attributes:
        label, hours, subject_id: of each row; hours since the stay began.
        unit: of each row, where units are judged one by one and their mean is told; all the same: together.
        score: anything that ranks rows of one unit.
    """

    label: Float64
    hours: Float64
    subject_id: NDArray[np.object_]
    unit: NDArray[np.object_]
    score: Float64

    def auroc(self, low: float = 0, high: float | None = None) -> float:
        """The mean over units of the AUROC of these hours of stays; units without both outcomes there are left out."""
        within = (self.hours >= low) & (self.hours < (np.inf if high is None else high))
        rows = [within & (self.unit == unit) for unit in pd.unique(self.unit)]
        found = [roc_auc_score(self.label[of], self.score[of]) for of in rows if len(np.unique(self.label[of])) == 2]
        return float(np.mean(found)) if found else float("nan")

    def draws(self) -> Float64:
        """The AUROC of all hours in each resample of patients, the same resamples for every candidate."""
        rows = [self.unit == unit for unit in pd.unique(self.unit)]
        resamples = [Resamples.of(self.subject_id[of], SEED) for of in rows]
        found = [
            discrimination_draws(self.label[of], self.score[of], drawn)["auroc"]
            for of, drawn in zip(rows, resamples, strict=True)
        ]
        return np.asarray(np.mean(found, axis=0))


def travel2019(train: Path, test: Path | None, only: str | None = None) -> Benchmark:
    """Imitate a change of hospital within the 2019 challenge.

    Args:
        train: the training set.
        test: folder of the eICU demo, which is scored as well by the default.
        only: ``logistic``: compare penalties of the linear baseline; None: compare trees.

    Raises:
        BenchmarkError: ``only`` is something else.
    """
    task = TASKS["sepsis"]
    service = SERVICES[task.feature_service]
    cohort = _cohort(*read_compared(Cinc2019(train), service, "training set"), hourly=True)
    elsewhere = {}
    if test is not None:
        elsewhere = {f"eicu {kind}": read(EicuDemo(test, kind), service, f"eICU, {kind}") for kind in ("sepsis", "aki")}
    return _study("travel2019", cohort, service, elsewhere, _family(only))


def travel2012(train: Path, test: Path | None, only: str | None = None) -> Benchmark:
    """Imitate a change of hospital within the 2012 challenge; ``test``: another set to score as well; else as above."""
    service = SERVICES[TASKS["mortality"].feature_service]
    cohort = _cohort(*read_compared(Cinc2012(train), service, "training set"), hourly=False)
    elsewhere = {} if test is None else {"test set": read(Cinc2012(test), service, "test set")}
    return _study("travel2012", cohort, service, elsewhere, _family(only))


def _family(only: str | None) -> Callable[..., dict[str, Candidate]]:
    if only not in (None, "logistic"):
        raise BenchmarkError(f"--only {only}: expected logistic, the penalties of the linear baseline; leave it out for trees")
    return penalties if only else candidates


def _cohort(frame: pd.DataFrame, ways: Sequence[Augmented], judging: Augmented, *, hourly: bool) -> _Cohort:
    unit = frame["unit"].fillna("not stated").to_numpy(object)
    outcomes = frame.groupby(unit)["label"].nunique()
    return _Cohort(frame, ways, judging, unit, outcomes.index[outcomes == 2].tolist(), hourly)


def _study(
    name: str,
    cohort: _Cohort,
    service: Sequence[str],
    elsewhere: Mapping[str, pd.DataFrame],
    family: Callable[..., dict[str, Candidate]],
) -> Benchmark:
    if silent := [place for place, frame in elsewhere.items() if frame["label"].nunique() < 2]:
        raise BenchmarkError(f"{silent[0]}: events, or hours without one, are missing; expected both to judge a model by")
    clock = trees([name for name in CLOCK if name in service], hourly=cohort.hourly, seed=SEED)
    compared = family(service, hourly=cohort.hourly)
    metrics: dict[str, Figures] = {}
    scored, draws = {}, {}
    for title, candidate in {"clock": Candidate(clock, ()), **compared}.items():
        model, visiting, places = _places(title, candidate, cohort)
        for place, rows in places.items():
            drawn = rows.draws()
            metrics[f"{title}: {place}"] = _aurocs(rows, drawn, cohort)
            if place == "both" and title in compared:
                draws[title] = drawn
        risk = places["home"].score
        threshold = _threshold(cohort.frame, risk)
        metrics[f"{title}: home"] |= _figures(cohort.frame, risk, threshold)
        metrics |= {f"{title}: without {unit}": found for unit, found in visiting.items()}
        if title not in ("clock", cohort.default):
            continue
        metrics |= {f"{title}: {way}": found for way, found in _cut_records(model, cohort).items()}
        for place, frame in elsewhere.items():
            risk = model.risk(frame)
            metrics[f"{title}: {place}"] = _figures(frame, risk, threshold)
            scored[f"{title}: {place}"] = frame[LABELLED].assign(probability=risk, alarm=risk >= threshold)
            if title == cohort.default:
                metrics[f"{title}: {place}"] |= _domain(model, cohort.frame, _ways(candidate, cohort), frame, risk)
    both = {title: metrics[f"{title}: both"] for title in draws}
    auroc = {title: found["auroc"] for title, found in both.items()}
    for title, (behind, error) in behind_best(auroc, draws).items():
        both[title] |= {"behind_best": behind, "standard_error": error}
    about = {
        "protocol": name,
        "seed": SEED,
        "training_stays": int(cohort.frame["subject_id"].nunique()),
        "simplest_within_one_standard_error": simplest_within_one_error(auroc, draws),
    }
    if left_out := sorted(set(cohort.unit) - set(cohort.units)):
        about["units_without_both_outcomes"] = ", ".join(left_out)
    return Benchmark(metrics, predictions(scored) if scored else pd.DataFrame(columns=list(PREDICTIONS)), about)


def _places(title: str, candidate: Candidate, cohort: _Cohort) -> tuple[RiskModel, dict[str, Figures], dict[str, _Place]]:
    """Fit a candidate at home and without each unit, and score it in all four places.

    Returns:
        The model of all units; the figures of each unit left out; and the places.
    """
    frame, judging = cohort.frame, cohort.judging
    ways = _ways(candidate, cohort)
    model = clone(candidate.model).set_params(repeats=1)
    if cohort.hourly:
        model.set_params(most_negatives=QUIET_HOURS)
    with working(f"{title}: all units"):
        home = model.cross_fit(frame, frame["label"], frame["subject_id"], ways)
        changed = _unseen(model, frame, judging)
    left_out, both, figures = np.full(len(frame), np.nan), np.full(len(judging.rows), np.nan), {}
    for unit in track(cohort.units, f"{title}: units left out", len(cohort.units)):
        here, judged_here = cohort.unit == unit, cohort.unit[judging.rows] == unit
        others, other_ways = frame[~here], [way.among(~here) for way in ways]
        visiting = clone(model).set_params(folds=VISITING_FOLDS)
        seen = visiting.cross_fit(others, others["label"], others["subject_id"], other_ways)
        left_out[here], both[judged_here] = visiting.risk(frame[here]), visiting.risk(judging.features[judged_here])
        seen_at_home = float(roc_auc_score(frame["label"][here], home[here]))
        figures[unit] = _figures(frame[here], left_out[here], _threshold(others, seen)) | {"auroc_seen": seen_at_home}
        if title == cohort.default:
            figures[unit] |= _domain(visiting, others, other_ways, frame[here], left_out[here])
    hours = ((frame["index_time"] - frame["start"]).dt.total_seconds() / 3600).to_numpy(np.float64)
    label, subject = frame["label"].to_numpy(np.float64), frame["subject_id"].to_numpy(object)
    together = np.full(len(frame), "all", dtype=object)

    def place(rows: NDArray[np.intp], unit: NDArray[np.object_], score: Float64) -> _Place:
        known = ~np.isnan(label[rows]) & ~np.isnan(score)
        of = rows[known]
        return _Place(label[of], hours[of], subject[of], unit[of], score[known])

    everywhere = np.arange(len(frame))
    places = {
        "home": place(everywhere, together, home),
        "changed habits": place(judging.rows, together, changed),
        "units left out": place(everywhere, cohort.unit, left_out),
        "both": place(judging.rows, cohort.unit, both),
    }
    return model, figures, places


def _ways(candidate: Candidate, cohort: _Cohort) -> list[Augmented]:
    return [way for way in cohort.ways if way.way in candidate.ways]


def _aurocs(place: _Place, draws: Float64, cohort: _Cohort) -> Figures:
    """AUROC of all hours with its interval, and by hours of the stay."""
    low, high = percentile(draws)
    found = {"auroc": place.auroc(), "auroc_low": low, "auroc_high": high}
    if cohort.hourly:
        found |= {f"auroc_{first}_to_{last or 'end'}_h": place.auroc(first, last) for first, last in _HOURS}
    return found


def _domain(
    model: RiskModel, seen: pd.DataFrame, ways: Sequence[Augmented], frame: pd.DataFrame, risk: Float64
) -> dict[str, float]:
    """The domain of use of the patients seen, judged on others."""
    outside = domain_of_use(model, seen, ways, SEED).outside(frame)
    found = judged(outside, frame["label"], risk, frame["subject_id"], seed=SEED)
    return {f"domain_{name}": value for name, value in found.items() if value is not None}


def _cut_records(model: RiskModel, cohort: _Cohort) -> dict[str, Figures]:
    """Figures of the same patients by cut records, by members that have not seen them.

    Cut records are some hours of a stay, in which no alarm can be counted as it would sound.
    """
    found = {}
    for way in cohort.ways:
        rows = cohort.frame.iloc[way.rows]
        if way.way in _CUT_RECORDS and rows["label"].nunique() == 2:
            found[_CUT_RECORDS[way.way]] = _figures(rows, _unseen(model, cohort.frame, way), float("nan"))
    return found


def _unseen(model: RiskModel, training: pd.DataFrame, way: Augmented) -> Float64:
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


def _threshold(frame: pd.DataFrame, risk: Float64) -> float:
    """The threshold within the budget; infinite where a risk is asked once a stay and no alarm sounds."""
    return threshold_at_budget(watched(frame[LABELLED].assign(probability=risk)), _ALLOWED)


def _own_alarms(scored: pd.DataFrame) -> Figures:
    """What sounds here when the place sets its threshold itself: on one half of its patients, counted on the other, in turn."""
    half = folds(scored["subject_id"], np.zeros(len(scored), dtype=bool), 2, seed=SEED)  # no outcome is looked at
    threshold = np.array([threshold_without_labels(scored[half != counted], _ALLOWED) for counted in (0, 1)])
    found = count_where(scored, scored["probability"].to_numpy() >= threshold[half]).figures()
    return {f"own_{name}": value for name, value in found.items()}


def _figures(frame: pd.DataFrame, risk: Float64, threshold: float) -> Figures:
    """AUROC with its interval, AUPRC, level, calibration; with a threshold also its alarms here, and an own one's."""
    label = frame["label"].to_numpy(np.float64)
    low, high = percentile(discrimination_draws(label, risk, Resamples.of(frame["subject_id"], SEED))["auroc"])
    found = {**discrimination(label, risk), "auroc_low": low, "auroc_high": high, **calibration(label, risk)}
    found["mean_risk"] = float(risk.mean())
    if np.isfinite(threshold):
        scored = frame[LABELLED].assign(probability=risk)
        found |= Watch.of(scored).count(threshold).figures() | _own_alarms(scored)
    return found
