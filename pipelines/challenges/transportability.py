"""Performance of a model in another hospital, imitated within one cohort, and the choice of a model by it.

Every candidate (:mod:`vigil.pipelines.challenges.candidates`) is evaluated in four settings:

- *Home*: five-fold cross-validation by patient.
- *Changed habits*: the same patients as a hospital of very different measurement habits would have recorded them
  (:func:`vigil.models.training.measurement_augmentation.changed_habits`). No model learns from this draw. Each patient is
  scored by the member that has not seen them.
- *Units left out*: each unit in turn, scored by a model that has seen no patient of it.
- *Both*: the units left out, under changed habits.

The simplest candidate within one standard error of the best in *both* is chosen. No test set is used.

Home and units left out hold all hours. Changed habits and both hold all hours before an event and a random share of the
others, which leaves the expected AUROC the same. Alarms sound at the threshold that costs half an alarm per patient-day on the
training patients. Its cost in the unit left out is what a new ward would notice first. Figures named ``own_...`` are those of
a threshold that the new setting chooses for the same budget on its own risks, without labels.
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

from vigil.features.catalogue import SERVICES
from vigil.models.alarms.timeline import (
    AlarmTimeline,
    build_timeline,
    count_alarms_where,
    threshold_at_budget,
    threshold_without_labels,
)
from vigil.models.cohort import LABEL_COLUMNS, assign_folds
from vigil.models.evaluation.calibration import measure_calibration
from vigil.models.evaluation.discrimination import measure_discrimination, resample_discrimination
from vigil.models.evaluation.domain import measure_domain_of_use
from vigil.models.seeds import SEED
from vigil.models.statistics.bootstrap import Resamples, percentile_interval
from vigil.models.tasks import TASKS
from vigil.models.training.candidate_models import CLOCK, DEFAULT, DEFAULT_PER_STAY, tree_model
from vigil.models.training.measurement_augmentation import Augmented
from vigil.models.training.risk_model import RiskModel
from vigil.pipelines.challenges import PREDICTIONS, Benchmark, BenchmarkError, to_predictions
from vigil.pipelines.challenges.candidates import (
    Candidate,
    gap_to_best,
    linear_candidates,
    simplest_within_one_error,
    tree_candidates,
)
from vigil.pipelines.challenges.frames import read_compared, read_frame
from vigil.pipelines.jobs.train import fit_domain_of_use
from vigil.pipelines.progress import timed_step, track
from vigil.pipelines.sources.cinc2012 import Cinc2012
from vigil.pipelines.sources.cinc2019 import Cinc2019
from vigil.pipelines.sources.eicu_demo import EicuDemo

QUIET_HOURS: Final = 20_000  # for each member; fewer than in training, since a study fits many members
TRANSFER_FOLDS: Final = 3  # of a model for a unit left out; five would take twice as long as all the rest
# Alarms per patient-day that a threshold may cost. Ours, and frozen. The study evaluates the model alone, whereas a task's
# promise counts the alarms of the safety net too.
_ALARM_BUDGET: Final = 0.5
# Hours of the stay for which an AUROC is given: a mean over all hours hides the early ones, which are few.
_HOUR_RANGES: Final = ((0, 2), (2, 6), (6, 12), (12, 48), (48, None), (0, 12))
_TRUNCATED_RECORDS: Final = {"late_start": "late start", "last_set": "last set alone"}

Figures = dict[str, float]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Cohort:
    """The rows for training and evaluation.

    Attributes:
        frame: rows as measured.
        augmented: augmented rows of the same patients, to learn from.
        judging: rows of the same patients by changed habits that no model learns from.
        unit: of each row of the frame.
        units: names of the units that hold both outcomes.
        hourly: True if a row is an hour of a stay, False if it is a stay.
    """

    frame: pd.DataFrame
    augmented: Sequence[Augmented]
    judging: Augmented
    unit: NDArray[np.object_]
    units: Sequence[str]
    hourly: bool

    @property
    def default(self) -> str:
        """The name of the variant that is registered."""
        return DEFAULT if self.hourly else DEFAULT_PER_STAY


@dataclass(frozen=True, eq=False)
class _Setting:
    """Scored rows on which a candidate is evaluated.

    Attributes:
        label, subject_id: of each row.
        hours: since the stay began, of each row.
        unit: of each row. Each unit is evaluated alone, and the mean over units is given. One value for all rows means that
            they are evaluated together.
        score: ranks the rows of one unit. Scores of different units are not compared.
    """

    label: Float64
    hours: Float64
    subject_id: NDArray[np.object_]
    unit: NDArray[np.object_]
    score: Float64

    def auroc(self, low: float = 0, high: float | None = None) -> float:
        """Return the mean over units of the AUROC in a range of hours, leaving out units without both outcomes in it."""
        within = (self.hours >= low) & (self.hours < (np.inf if high is None else high))
        rows = [within & (self.unit == unit) for unit in pd.unique(self.unit)]
        aurocs = [roc_auc_score(self.label[unit], self.score[unit]) for unit in rows if len(np.unique(self.label[unit])) == 2]
        return float(np.mean(aurocs)) if aurocs else float("nan")

    def draws(self) -> Float64:
        """Return the AUROC of all hours in each resample of patients. Resamples are the same for every candidate."""
        rows = [self.unit == unit for unit in pd.unique(self.unit)]
        resamples = [Resamples.draw(self.subject_id[unit], SEED) for unit in rows]
        draws = [
            resample_discrimination(self.label[unit], self.score[unit], drawn)["auroc"]
            for unit, drawn in zip(rows, resamples, strict=True)
        ]
        return np.asarray(np.mean(draws, axis=0))


def transportability2019(train: Path, test: Path | None, only: str | None = None) -> Benchmark:
    """Imitate a change of hospital within the 2019 challenge.

    Args:
        train: path of the training set.
        test: folder of the eICU demo. If given, the default model scores it as well.
        only: ``logistic`` compares penalties of the linear baseline; None compares trees.

    Raises:
        BenchmarkError: ``only`` has another value.
    """
    task = TASKS["sepsis"]
    service = SERVICES[task.feature_service]
    cohort = _to_cohort(*read_compared(Cinc2019(train), service, "training set"), hourly=True)
    external = {}
    if test is not None:
        external = {f"eicu {kind}": read_frame(EicuDemo(test, kind), service, f"eICU, {kind}") for kind in ("sepsis", "aki")}
    return _study("travel2019", cohort, service, external, _choose_candidates(only))


def transportability2012(train: Path, test: Path | None, only: str | None = None) -> Benchmark:
    """Imitate a change of hospital within the 2012 challenge.

    Args:
        train: path of the training set.
        test: path of another set. If given, the default model scores it as well.
        only: as :func:`transportability2019` takes it.

    Raises:
        BenchmarkError: ``only`` has another value.
    """
    service = SERVICES[TASKS["mortality"].feature_service]
    cohort = _to_cohort(*read_compared(Cinc2012(train), service, "training set"), hourly=False)
    external = {} if test is None else {"test set": read_frame(Cinc2012(test), service, "test set")}
    return _study("travel2012", cohort, service, external, _choose_candidates(only))


def _choose_candidates(only: str | None) -> Callable[..., dict[str, Candidate]]:
    if only not in (None, "logistic"):
        raise BenchmarkError(
            f"--only {only}: expected logistic, for the penalties of the linear baseline; leave it out for trees"
        )
    return linear_candidates if only else tree_candidates


def _to_cohort(frame: pd.DataFrame, augmented: Sequence[Augmented], judging: Augmented, *, hourly: bool) -> _Cohort:
    unit = frame["unit"].fillna("not stated").to_numpy(object)
    outcomes = frame.groupby(unit)["label"].nunique()
    return _Cohort(frame, augmented, judging, unit, outcomes.index[outcomes == 2].tolist(), hourly)


def _study(
    name: str,
    cohort: _Cohort,
    service: Sequence[str],
    external: Mapping[str, pd.DataFrame],
    make_candidates: Callable[..., dict[str, Candidate]],
) -> Benchmark:
    """Evaluate all candidates in all settings, and score the external cohorts by the default and the clock."""
    if one_sided := [title for title, frame in external.items() if frame["label"].nunique() < 2]:
        raise BenchmarkError(f"{one_sided[0]}: holds no event, or no hour without one; expected both to evaluate a model")
    clock = tree_model([name for name in CLOCK if name in service], hourly=cohort.hourly, seed=SEED)
    compared = make_candidates(service, hourly=cohort.hourly)
    metrics: dict[str, Figures] = {}
    scored, draws = {}, {}
    for title, candidate in {"clock": Candidate(clock, ()), **compared}.items():
        model, left_out, settings = _evaluate(title, candidate, cohort)
        for setting, rows in settings.items():
            drawn = rows.draws()
            metrics[f"{title}: {setting}"] = _compute_aurocs(rows, drawn, cohort)
            if setting == "both" and title in compared:
                draws[title] = drawn
        risk = settings["home"].score
        threshold = _threshold(cohort.frame, risk)
        metrics[f"{title}: home"] |= _compute_figures(cohort.frame, risk, threshold)
        metrics |= {f"{title}: without {unit}": figures for unit, figures in left_out.items()}
        if title not in ("clock", cohort.default):
            continue
        metrics |= {f"{title}: {record}": figures for record, figures in _score_truncated(model, cohort).items()}
        for other, frame in external.items():
            risk = model.risk(frame)
            metrics[f"{title}: {other}"] = _compute_figures(frame, risk, threshold)
            scored[f"{title}: {other}"] = frame[LABEL_COLUMNS].assign(probability=risk, alarm=risk >= threshold)
            if title == cohort.default:
                metrics[f"{title}: {other}"] |= _evaluate_domain(
                    model, cohort.frame, _augmented_rows(candidate, cohort), frame, risk
                )
    both = {title: metrics[f"{title}: both"] for title in draws}
    auroc = {title: figures["auroc"] for title, figures in both.items()}
    for title, (gap, error) in gap_to_best(auroc, draws).items():
        both[title] |= {"behind_best": gap, "standard_error": error}
    facts = {
        "protocol": name,
        "seed": SEED,
        "training_stays": int(cohort.frame["subject_id"].nunique()),
        "simplest_within_one_standard_error": simplest_within_one_error(auroc, draws),
    }
    if excluded := sorted(set(cohort.unit) - set(cohort.units)):
        facts["units_without_both_outcomes"] = ", ".join(excluded)
    return Benchmark(metrics, to_predictions(scored) if scored else pd.DataFrame(columns=list(PREDICTIONS)), facts)


def _evaluate(title: str, candidate: Candidate, cohort: _Cohort) -> tuple[RiskModel, dict[str, Figures], dict[str, _Setting]]:
    """Fit a candidate on all units and without each unit, and score it in all four settings.

    Returns:
        The model of all units, the figures of each unit left out, and the settings by name.
    """
    frame, judging = cohort.frame, cohort.judging
    augmented = _augmented_rows(candidate, cohort)
    model = clone(candidate.model).set_params(repeats=1)
    if cohort.hourly:
        model.set_params(max_negatives=QUIET_HOURS)
    with timed_step(f"{title}: all units"):
        home = model.cross_fit(frame, frame["label"], frame["subject_id"], augmented)
        changed = _score_unseen(model, frame, judging)
    left_out, both, figures = np.full(len(frame), np.nan), np.full(len(judging.rows), np.nan), {}
    for unit in track(cohort.units, f"{title}: units left out", len(cohort.units)):
        in_unit, judged_in_unit = cohort.unit == unit, cohort.unit[judging.rows] == unit
        others, augmented_others = frame[~in_unit], [rows.select(~in_unit) for rows in augmented]
        transferred = clone(model).set_params(folds=TRANSFER_FOLDS)
        risk_of_others = transferred.cross_fit(others, others["label"], others["subject_id"], augmented_others)
        left_out[in_unit] = transferred.risk(frame[in_unit])
        both[judged_in_unit] = transferred.risk(judging.features[judged_in_unit])
        threshold = _threshold(others, risk_of_others)
        figures[unit] = _compute_figures(frame[in_unit], left_out[in_unit], threshold)
        figures[unit]["auroc_seen"] = float(roc_auc_score(frame["label"][in_unit], home[in_unit]))
        if title == cohort.default:
            figures[unit] |= _evaluate_domain(transferred, others, augmented_others, frame[in_unit], left_out[in_unit])
    hours = np.asarray((frame["index_time"] - frame["start"]).dt.total_seconds() / 3600, dtype=np.float64)
    label, subject = frame["label"].to_numpy(np.float64), frame["subject_id"].to_numpy(object)
    together = np.full(len(frame), "all", dtype=object)

    def to_setting(rows: NDArray[np.intp], unit: NDArray[np.object_], score: Float64) -> _Setting:
        known = ~np.isnan(label[rows]) & ~np.isnan(score)
        rows = rows[known]
        return _Setting(label[rows], hours[rows], subject[rows], unit[rows], score[known])

    all_rows = np.arange(len(frame))
    settings = {
        "home": to_setting(all_rows, together, home),
        "changed habits": to_setting(judging.rows, together, changed),
        "units left out": to_setting(all_rows, cohort.unit, left_out),
        "both": to_setting(judging.rows, cohort.unit, both),
    }
    return model, figures, settings


def _augmented_rows(candidate: Candidate, cohort: _Cohort) -> list[Augmented]:
    """Return the augmented rows that a candidate learns from."""
    return [rows for rows in cohort.augmented if rows.way in candidate.augmentations]


def _compute_aurocs(setting: _Setting, draws: Float64, cohort: _Cohort) -> Figures:
    """Return the AUROC of all hours with its interval, and that of each range of hours of the stay."""
    low, high = percentile_interval(draws)
    figures = {"auroc": setting.auroc(), "auroc_low": low, "auroc_high": high}
    if cohort.hourly:
        figures |= {f"auroc_{first}_to_{last or 'end'}_h": setting.auroc(first, last) for first, last in _HOUR_RANGES}
    return figures


def _evaluate_domain(
    model: RiskModel, seen: pd.DataFrame, augmented: Sequence[Augmented], frame: pd.DataFrame, risk: Float64
) -> dict[str, float]:
    """Evaluate the domain of use of the training patients on other patients."""
    outside = fit_domain_of_use(model, seen, augmented, SEED).outside(frame)
    figures = measure_domain_of_use(outside, frame["label"], risk, frame["subject_id"], seed=SEED)
    return {f"domain_{name}": value for name, value in figures.items() if value is not None}


def _score_truncated(model: RiskModel, cohort: _Cohort) -> dict[str, Figures]:
    """Return the figures of truncated records of the same patients, scored by members that have not seen them.

    A truncated record holds only some hours of a stay, so alarms cannot be counted as they would sound.
    """
    figures = {}
    for augmented in cohort.augmented:
        rows = cohort.frame.iloc[augmented.rows]
        if augmented.way in _TRUNCATED_RECORDS and rows["label"].nunique() == 2:
            risk = _score_unseen(model, cohort.frame, augmented)
            figures[_TRUNCATED_RECORDS[augmented.way]] = _compute_figures(rows, risk, float("nan"))
    return figures


def _score_unseen(model: RiskModel, training: pd.DataFrame, augmented: Augmented) -> Float64:
    """Return the risk of each augmented row, by the member that has not seen its patient."""
    fold = assign_folds(training["subject_id"], training["label"].to_numpy() == 1, model.folds, seed=model.seed)[augmented.rows]
    risk = np.empty(len(fold))
    for left_out, member in enumerate(_single_members(model)):
        risk[fold == left_out] = member.risk(augmented.features[fold == left_out])
    return risk


def _single_members(model: RiskModel) -> Iterator[RiskModel]:
    """Yield the model with the member of one fold alone, for each fold: these members gave the out-of-fold risks."""
    for member in range(len(model.members_[0])):
        single = copy.copy(model)
        single.members_ = [view[member : member + 1] for view in model.members_]
        yield single


def _threshold(frame: pd.DataFrame, risk: Float64) -> float:
    """Return the threshold within the budget, which is infinite where each stay is one row and no alarm sounds."""
    return threshold_at_budget(build_timeline(frame[LABEL_COLUMNS].assign(probability=risk)), _ALARM_BUDGET)


def _count_own_alarms(scored: pd.DataFrame) -> Figures:
    """Return the alarms at a threshold chosen on one half of these patients and counted on the other half, and vice versa."""
    half = assign_folds(scored["subject_id"], np.zeros(len(scored), dtype=bool), 2, seed=SEED)  # no outcome is used
    threshold = np.array([threshold_without_labels(scored[half != counted], _ALARM_BUDGET) for counted in (0, 1)])
    figures = count_alarms_where(scored, scored["probability"].to_numpy() >= threshold[half]).figures()
    return {f"own_{name}": value for name, value in figures.items()}


def _compute_figures(frame: pd.DataFrame, risk: Float64, threshold: float) -> Figures:
    """Return AUROC with its interval, AUPRC, mean risk and calibration of these patients.

    With a finite threshold, add the alarms at it and those at a threshold chosen on these patients.
    """
    label = frame["label"].to_numpy(np.float64)
    low, high = percentile_interval(resample_discrimination(label, risk, Resamples.draw(frame["subject_id"], SEED))["auroc"])
    figures = {**measure_discrimination(label, risk), "auroc_low": low, "auroc_high": high, **measure_calibration(label, risk)}
    figures["mean_risk"] = float(risk.mean())
    if np.isfinite(threshold):
        scored = frame[LABEL_COLUMNS].assign(probability=risk)
        figures |= AlarmTimeline.from_frame(scored).count(threshold).figures() | _count_own_alarms(scored)
    return figures
