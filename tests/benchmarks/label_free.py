"""Performance estimated without labels, compared with the measured performance, on shifts with known labels.

Four methods are compared:

- that of Vigil: :func:`vigil.models.evaluation.label_free.estimate_performance` with the reliability of the out-of-fold risks;
- the same without reliability;
- the out-of-fold figure plus the difference of the expected figures of both cohorts (Guillory D, et al. Predicting with
  confidence on unseen distributions. ICCV 2021);
- reliability with training patients weighted by their similarity to the new cohort (the idea of Bialek J, et al.
  arXiv:2401.08348, 2024; here with a logistic fit and boosted trees).

The baseline assumes that the out-of-fold figure stays the same.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from tests.benchmarks.measure import Section
from vigil.features.catalogue import FEATURES, SERVICES
from vigil.features.signals import signal_names
from vigil.models.alarms.timeline import AlarmTimeline, threshold_at_budget
from vigil.models.cohort import LABEL_COLUMNS, assign_folds
from vigil.models.evaluation.calibration import measure_calibration
from vigil.models.evaluation.discrimination import measure_discrimination, resample_discrimination
from vigil.models.evaluation.label_free import Reliability, estimate_performance
from vigil.models.evaluation.robustness import Loss
from vigil.models.seeds import SEED
from vigil.models.statistics.bootstrap import RESAMPLES, Resamples, percentile_interval
from vigil.models.tasks import TASKS, RiskTask
from vigil.models.training.candidate_models import model_features as learned_features
from vigil.models.training.candidate_models import tree_model
from vigil.models.training.measurement_augmentation import Augmented, other_habits
from vigil.models.training.risk_model import RiskModel, log_odds
from vigil.pipelines.challenges.frames import read_augmented, read_frame
from vigil.pipelines.sources import Batch, Source
from vigil.pipelines.sources.cinc2019 import Cinc2019
from vigil.pipelines.sources.simulated import SimulatedWard

Float64 = NDArray[np.float64]

UNIT: Final = "Unit1"  # the medical intensive care unit of set A; the model learns from half of its patients
WARD_PATIENTS: Final = (400, 1000)  # of training, and of the estimate
OTHER_SEED: Final = 7
# Cheaper than the default: a third of its trees, with steps three times as large, from a third of its quiet hours.
CHEAPER: Final = {
    "learner__n_estimators": 230, "learner__learning_rate": 0.06,
    "most_negatives": 20_000,
}  # fmt: skip

_SIMILARITY_ROWS: Final = 20_000  # index times of each cohort from which similarity is learned
_WEIGHT_QUANTILE: Final = 0.995  # at which its weights are truncated
FIGURES: Final = ("auroc", "auprc", "brier", "prevalence", "precision", "recall")
VIGIL: Final = "estimate"
METHODS: Final = (
    VIGIL,
    "without reliability",
    "difference of expected figures",
    "weighted by similarity",
    "out-of-fold figure",
)

_TEXT: Final = f"""\
The performance estimated for index times without their labels, compared with the figures by their labels. Figures are by index
time. Intervals (95 %) resample patients; those of the estimate also resample the patients that reliability was learned from.
The models are cheaper than the default (a third of its trees and of its quiet hours), learned from changed measurement habits
as well, and have seen none of the patients of the table. **Set A**: PhysioNet/CinC Challenge 2019. The model learned from one
half of the medical unit's patients. The rows are parts of the other half, other units, and the other half with changed
measurements. **Simulated ward**: the model learned from {WARD_PATIENTS[0]} patients and is applied to {WARD_PATIENTS[1]:,} of
another seed. Hours with a truncated horizon have no label and are left out of both figures. *Not detectable*: half of the
events averted by treatment, patients left out by their outcome, and outcomes of other patients. There the signs look the same
but mean another risk. Precision and recall are those at the threshold of half an alarm per patient-day on the training
patients."""

Figures = dict[str, float]
Change = Callable[[pd.DataFrame], pd.DataFrame]


@dataclass(frozen=True)
class Cohort:
    """Index times with known labels, and the risk of a model that has not seen their patients.

    Attributes:
        title: in words.
        frame: ``subject_id, label`` (0 or 1) and the model's features.
        risk: shape (n_rows,).
    """

    title: str
    frame: pd.DataFrame
    risk: Float64

    @property
    def label(self) -> Float64:
        """Return the label of each row, 0 or 1."""
        return self.frame["label"].to_numpy(np.float64)

    def part(self, title: str, rows: NDArray[np.bool_]) -> "Cohort":
        """Return some of the rows under another title."""
        return Cohort(title, self.frame[rows], self.risk[rows])


@dataclass(frozen=True)
class Study:
    """A trained model, and the cohorts to which it is applied.

    Attributes:
        learned: the training patients, with out-of-fold risks.
        threshold: chosen on them.
        cohorts: the cohorts.
        undetectable: cohorts in which the signs mean another risk.
    """

    learned: Cohort
    threshold: float
    cohorts: list[Cohort]
    undetectable: list[Cohort]


@dataclass(frozen=True)
class Changed(Source):
    """A source of some patients of another source, with changed observations."""

    source: Source
    patients: Collection[str]
    change: Change

    name, simulated, deidentified = "changed", False, True

    @property
    def task(self) -> RiskTask:
        return self.source.task

    def __len__(self) -> int:
        return len(self.source)

    def batches(self) -> Iterator[Batch]:
        for batch in self.source.batches():
            stays, observations, outcomes = (
                table[table["subject_id"].isin(self.patients)] for table in (batch.stays, batch.observations, batch.outcomes)
            )
            yield Batch(self.change(observations.reset_index(drop=True)), stays, outcomes)


def cinc2019_study(data: Path) -> Study:
    """Learn from one half of a unit's patients; apply to the other half, to other units, and to changed observations."""
    source, service = Cinc2019(data), list(SERVICES[TASKS["sepsis"].feature_service])
    all_rows = read_frame(source, service, "set A")
    half = assign_folds(all_rows["subject_id"], all_rows["label"].to_numpy() == 1, 2, seed=SEED)
    in_unit = (all_rows["unit"] == UNIT).fillna(False).to_numpy(bool)
    training = all_rows[in_unit & (half == 0)].reset_index(drop=True)
    patients = set(all_rows.loc[in_unit & (half == 1), "subject_id"])
    habits = read_frame(Changed(source, set(training["subject_id"]), other_habits), service, "habits")
    augmented = Augmented(np.arange(len(training)), habits, np.ones(len(training)), "other_habits")
    model, learned, threshold = _learn("sepsis", training, [augmented])
    home = _score_cohort(model, "the same unit: no shift", all_rows[in_unit & (half == 1)])
    age, hours = home.frame["age"], (home.frame["index_time"] - home.frame["start"]) / pd.Timedelta(hours=1)
    cohorts = [
        home,
        home.part("under 50 years old", (age < 50).to_numpy()),
        home.part("80 and over", (age >= 80).to_numpy()),
        home.part("NEWS2 of 7 or more", (home.frame["news2"] >= 7).to_numpy()),
        home.part("first 12 h", (hours < 12).to_numpy()),
        home.part("24 to 36 h", hours.between(24, 36, inclusive="left").to_numpy()),
        _score_cohort(model, "the surgical unit", all_rows[(all_rows["unit"] == "Unit2").fillna(False)]),
        _score_cohort(model, "unit not stated", all_rows[all_rows["unit"].isna()]),
    ]
    del all_rows
    for title, change in (
        ("other measurement habits", other_habits),
        ("half of all readings lost", _drop(Loss("", share=0.5))),
        ("no laboratory values", _drop(Loss("", signals=tuple(signal_names("laboratory"))))),
        ("no heart rate, no respiratory rate", _drop(Loss("", signals=("heart_rate", "respiratory_rate")))),
    ):
        cohorts.append(_score_cohort(model, title, read_frame(Changed(source, patients, change), service, title)))
    return Study(learned, threshold, cohorts, [_avert_events(home)])


def ward_study() -> Study:
    """Learn from a simulated ward, and apply to another one of another seed."""
    service = list(SERVICES[TASKS["deterioration"].feature_service])
    learn, judge = WARD_PATIENTS
    training, augmented = read_augmented(SimulatedWard(learn), service, "ward")
    source = SimulatedWard(judge, OTHER_SEED)
    model, learned, threshold = _learn("deterioration", training, augmented)
    home = _score_cohort(model, "the same kind of ward: no shift", read_frame(source, service, "another ward"))
    subject, age = home.frame["subject_id"], home.frame["age"]
    worst = home.frame["news2"].groupby(subject).transform("mean")
    event = home.frame["label"].groupby(subject).transform("max") == 1
    third = assign_folds(subject, np.zeros(len(subject), dtype=bool), 3, seed=SEED) == 0
    cohorts = [
        home,
        home.part("75 and over", (age >= 75).to_numpy()),
        home.part("the sicker half, by mean NEWS2", (worst >= worst.median()).to_numpy()),
        home.part("75 and over of the sicker half", ((age >= 75) & (worst >= worst.median())).to_numpy()),
    ]
    for title, change in (
        ("half of all readings lost", _drop(Loss("", share=0.5))),
        ("no heart rate", _drop(Loss("", signals=("heart_rate",)))),
    ):
        cohorts.append(_score_cohort(model, title, read_frame(Changed(source, set(subject), change), service, title)))
    without_most = home.part("two of three without an event left out", event.to_numpy() | third)
    return Study(learned, threshold, cohorts, [without_most, _swap_outcomes(home)])


def _learn(task: str, training: pd.DataFrame, augmented: Sequence[Augmented]) -> tuple[RiskModel, Cohort, float]:
    features = learned_features(SERVICES[TASKS[task].feature_service])
    model = tree_model(features, hourly=True, seed=SEED).set_params(**CHEAPER)
    risk = model.cross_fit(training, training["label"], training["subject_id"], augmented)
    watch = AlarmTimeline.from_frame(training[LABEL_COLUMNS].assign(probability=risk))
    threshold = threshold_at_budget(watch, TASKS[task].alarm_target.alarms_per_patient_day)
    known = training["label"].notna().to_numpy()
    return model, Cohort("out of fold", training[known], risk[known]), threshold


def _score_cohort(model: RiskModel, title: str, frame: pd.DataFrame) -> Cohort:
    known = frame[frame["label"].notna()].reset_index(drop=True)
    return Cohort(title, known, model.risk(known))


def _drop(loss: Loss) -> Change:
    return lambda observations: observations[loss.remaining(observations, SEED)]


def _avert_events(cohort: Cohort) -> Cohort:
    """Return the cohort as if half of the patients with an event were treated in time: the same signs, and no event."""
    half = assign_folds(cohort.frame["subject_id"], cohort.label == 1, 2, seed=SEED) == 0
    return replace(
        cohort, title="half of the events averted", frame=cohort.frame.assign(label=np.where(half, 0.0, cohort.label))
    )


def _swap_outcomes(cohort: Cohort) -> Cohort:
    """Return the risks of each patient with the outcome of another patient, so that signs have no meaning."""
    order = np.random.default_rng(SEED).permutation(cohort.frame["subject_id"].unique())
    other = cohort.frame["subject_id"].map(dict(zip(order, np.roll(order, 1), strict=True)))
    label, hour = cohort.frame["label"], cohort.frame.groupby("subject_id").cumcount()
    by_hour = pd.Series(label.to_numpy(), pd.MultiIndex.from_arrays([cohort.frame["subject_id"], hour]))
    others = by_hour.reindex(pd.MultiIndex.from_arrays([other, hour])).to_numpy()
    known = ~np.isnan(others)
    title = "risks with another patient's outcome"
    return Cohort(title, cohort.frame[known].assign(label=others[known]), cohort.risk[known])


@dataclass(frozen=True)
class Compared:
    """The measured figures of a cohort, and the estimates of each method.

    Attributes:
        cohort: the cohort.
        measured: figures, with the intervals of AUROC and AUPRC.
        estimates: figures by method, with intervals for that of Vigil.
        is_undetectable: whether the signs mean another risk in this cohort.
    """

    cohort: Cohort
    measured: Figures
    estimates: dict[str, Figures]
    is_undetectable: bool

    def error(self, method: str, figure: str) -> float:
        """Return the estimate of a method minus the measured figure."""
        return self.estimates[method][figure] - self.measured[figure]

    @property
    def cells(self) -> list[str]:
        """Return the row of the table."""
        subject = self.cohort.frame["subject_id"]
        cells = [self.cohort.title, f"{subject.nunique():,}", f"{subject[self.cohort.label == 1].nunique():,}"]
        cells.append(f"{self.measured['prevalence']:.2%}".replace("%", " %"))
        for figure in ("auroc", "auprc"):
            cells += [_with_interval(self.estimates[VIGIL], figure), _with_interval(self.measured, figure)]
            cells += [f"{self.error(method, figure):+.3f}" for method in (VIGIL, METHODS[-1])]
        return cells


def compare(study: Study) -> list[Compared]:
    """Compare every method in every cohort."""
    learned, threshold = study.learned, study.threshold
    before = measure(learned, threshold)
    expected_before = _estimate(learned, threshold, None)
    reliability = Reliability.fit(learned.risk, learned.label, learned.frame["subject_id"], seed=SEED)
    compared = []
    for number, cohort in enumerate((*study.cohorts, *study.undetectable)):
        with_reliability, plain = _estimate(cohort, threshold, reliability), _estimate(cohort, threshold, None)
        difference = {name: before[name] + plain[name] - expected_before[name] for name in FIGURES}
        weighted = _estimate(cohort, threshold, _weighted(learned, cohort, reliability))
        estimates = dict(zip(METHODS, (with_reliability, plain, difference, weighted, before), strict=True))
        compared.append(Compared(cohort, measure(cohort, threshold), estimates, number >= len(study.cohorts)))
    return compared


def measure(cohort: Cohort, threshold: float) -> Figures:
    """Return the figures by labels, AUROC and AUPRC with intervals."""
    label, risk = cohort.label, cohort.risk
    above = risk >= threshold
    draws = resample_discrimination(label, risk, Resamples.draw(cohort.frame["subject_id"], SEED))
    figures = {**measure_discrimination(label, risk), "brier": measure_calibration(label, risk)["brier"]}
    figures |= {"precision": float(label[above].mean()), "recall": float(label[above].sum() / label.sum())}
    for name in ("auroc", "auprc"):
        figures[f"{name}_low"], figures[f"{name}_high"] = percentile_interval(draws[name])
    return figures


def _estimate(cohort: Cohort, threshold: float, reliability: Reliability | None) -> Figures:
    return estimate_performance(cohort.risk, cohort.frame["subject_id"], threshold, seed=SEED, reliability=reliability)


def _weighted(learned: Cohort, cohort: Cohort, reliability: Reliability) -> Reliability:
    """Return the reliability of the same bins by a logistic fit to training rows, weighted by similarity to the cohort."""
    features = [name for name in learned.frame if name in FEATURES]
    generator = np.random.default_rng(SEED)
    training, applied = (frame[features].to_numpy(np.float32) for frame in (learned.frame, cohort.frame))
    drawn = [rows[generator.choice(len(rows), min(_SIMILARITY_ROWS, len(rows)), replace=False)] for rows in (training, applied)]
    origin = np.repeat([0, 1], [len(rows) for rows in drawn])
    similarity = lightgbm.LGBMClassifier(
        n_estimators=60, num_leaves=8, min_child_samples=200, colsample_bytree=0.5, n_jobs=1, random_state=SEED, verbosity=-1
    ).fit(np.concatenate(drawn), origin)
    weight = np.exp(similarity.booster_.predict(training, raw_score=True, num_threads=1))
    weight = np.minimum(weight, np.quantile(weight, _WEIGHT_QUANTILE))
    margin = log_odds(learned.risk)[:, None]
    fitted = LogisticRegression(C=np.inf).fit(margin, learned.label, sample_weight=weight / weight.mean())
    bins = np.searchsorted(reliability.highest, learned.risk)
    chance = np.bincount(bins, fitted.predict_proba(margin)[:, 1]) / np.bincount(bins)
    return replace(reliability, chance=chance, draws=np.tile(chance, (RESAMPLES, 1)))


def label_free_section(data: Path) -> Section:
    """Measure both studies: the errors of every method, and the estimates of Vigil in each cohort."""
    return section({"set A": compare(cinc2019_study(data)), "simulated ward": compare(ward_study())})


def section(studies: dict[str, list[Compared]]) -> Section:
    """Return the section of the page."""
    rows = []
    for name, cohorts in studies.items():
        detectable = [cohort for cohort in cohorts if not cohort.is_undetectable]
        for cohort in cohorts:
            cells = cohort.cells
            rows.append([f"{name}: {cells[0]}" + (" (**not detectable**)" if cohort.is_undetectable else ""), *cells[1:]])
        means = [
            f"**{_mean_error(detectable, method, figure):.3f}**"
            for figure in ("auroc", "auprc")
            for method in (VIGIL, METHODS[-1])
        ]
        rows.append(
            [
                f"**{name}: mean absolute error of the {len(detectable)} detectable**",
                "",
                "",
                "",
                "",
                "",
                *means[:2],
                "",
                "",
                *means[2:],
            ]
        )
    head = ["cohort", "patients", "with event", "prevalence"]
    for figure in ("AUROC", "AUPRC"):
        head += [f"{figure} estimated", "measured", "error", "error of the out-of-fold figure"]
    return Section(
        "Performance estimated without labels",
        f"{_TEXT}\n\n{_errors_table(studies)}\n\n{_describe_intervals(studies)}",
        head,
        rows,
    )


def _errors_table(studies: dict[str, list[Compared]]) -> str:
    """Return the mean absolute errors of every method as a table."""
    lines = [["mean absolute error", *FIGURES], ["---"] * (1 + len(FIGURES))]
    for name, cohorts in studies.items():
        detectable = [cohort for cohort in cohorts if not cohort.is_undetectable]
        lines += [
            [f"{name}: {method}", *(f"{_mean_error(detectable, method, figure):.4f}" for figure in FIGURES)]
            for method in METHODS
        ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _describe_intervals(studies: dict[str, list[Compared]]) -> str:
    """Return how often estimates and their intervals agree with the measured figures."""
    detectable = [cohort for cohorts in studies.values() for cohort in cohorts if not cohort.is_undetectable]
    inside = sum(p.estimates[VIGIL]["auroc_low"] <= p.measured["auroc"] <= p.estimates[VIGIL]["auroc_high"] for p in detectable)
    apart = sum(
        p.estimates[VIGIL]["auroc_low"] > p.measured["auroc_high"] or p.estimates[VIGIL]["auroc_high"] < p.measured["auroc_low"]
        for p in detectable
    )
    nearer = {
        figure: sum(abs(p.error(VIGIL, figure)) < abs(p.error(METHODS[-1], figure)) for p in detectable)
        for figure in ("auroc", "auprc")
    }
    return (
        f"Of the {len(detectable)} detectable cohorts, the measured AUROC lay inside the interval of the estimate in {inside}, "
        f"and the two intervals did not overlap in {apart}. The estimate was closer than the out-of-fold figure in "
        f"{nearer['auroc']} for the AUROC, and in {nearer['auprc']} for the AUPRC."
    )


def _mean_error(cohorts: list[Compared], method: str, figure: str) -> float:
    return float(np.mean([abs(cohort.error(method, figure)) for cohort in cohorts]))


def _with_interval(figures: Figures, name: str) -> str:
    return f"{figures[name]:.3f} ({figures[f'{name}_low']:.3f}-{figures[f'{name}_high']:.3f})"
