"""Performance estimated without labels, beside what the labels say, on shifts of which they are known.

Four ways are compared: the product's (:func:`models.evaluation.label_free.estimate` with the reliability of the out-of-fold
risks); the same without reliability; the out-of-fold figure plus the difference of what is expected here and there (Guillory D,
et al. Predicting with confidence on unseen distributions. ICCV 2021); and reliability by training patients weighted for their
likeness to those here (the idea of Bialek J, et al. arXiv:2401.08348, 2024; here a logistic fit and boosted trees). The
baseline supposes that the out-of-fold figure stays.
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

from features.catalogue import FEATURES, SERVICES
from features.signals import names
from models.alarms.timeline import Watch, threshold_at_budget
from models.cohort import LABELLED, folds
from models.evaluation.calibration import calibration
from models.evaluation.discrimination import discrimination, discrimination_draws
from models.evaluation.label_free import Reliability, estimate
from models.evaluation.robustness import Loss
from models.seeds import SEED
from models.statistics.bootstrap import RESAMPLES, Resamples, percentile
from models.tasks import TASKS
from models.training.candidate_models import learned as learned_features
from models.training.candidate_models import trees
from models.training.measurement_augmentation import Augmented, remeasured
from models.training.risk_model import RiskModel, log_odds
from pipelines.challenges.frames import read, read_augmented
from pipelines.sources import Batch, Source
from pipelines.sources.cinc2019 import Cinc2019
from pipelines.sources.simulated import SimulatedWard
from tests.benchmarks.measure import Section

Float64 = NDArray[np.float64]

UNIT: Final = "Unit1"  # the medical intensive care unit of set A: half of its patients are learned from
WARD_PATIENTS: Final = (400, 1000)  # learned from, and estimated for
OTHER_SEED: Final = 7
# Cheaper than the default: a third of its trees, in steps three times as large, of a third of its quiet hours.
CHEAPER: Final = {
    "learner__n_estimators": 230, "learner__learning_rate": 0.06,
    "most_negatives": 20_000,
}  # fmt: skip

_COMPARED: Final = 20_000  # index times of either side that likeness is learned from
_WIDEST: Final = 0.995  # quantile at which its weights are cut
FIGURES: Final = ("auroc", "auprc", "brier", "prevalence", "precision", "recall")
OURS: Final = "estimate"
WAYS: Final = (
    OURS,
    "risks at their word",
    "difference of expected figures",
    "weighted by likeness",
    "out-of-fold figure stays",
)

_TEXT: Final = f"""\
What is expected of index times without looking at a label, beside what their labels say. By index time; intervals (95 %) by
patients drawn anew, those of the estimate also by the patients that reliability was learned from. Models are cheaper than the
default (a third of its trees and of its quiet hours), learned from other habits of measuring besides, and have seen none of
the patients here. **Set A**: PhysioNet/CinC Challenge 2019, learned from one half of the medical unit's patients; parts of the
other half, other units, and the other half measured otherwise. **Simulated ward**: {WARD_PATIENTS[0]} patients learned from,
{WARD_PATIENTS[1]:,} of another seed; hours whose horizon is cut off have no label and are left out of both figures. *Cannot be
seen*: half of the events averted by treatment, patients left out by their outcome, and outcomes of other patients: signs keep
their look, and change what they mean. Precision and recall: at the threshold of half an alarm a patient-day on the patients
trained on."""

Figures = dict[str, float]
Change = Callable[[pd.DataFrame], pd.DataFrame]


@dataclass(frozen=True)
class Place:
    """Index times with known labels, and the risk that a model gave them without having seen their patients.

    Attributes:
        what: in words.
        frame: ``subject_id, label`` (0 or 1) and the model's features.
        risk: shape (n_rows,).
    """

    what: str
    frame: pd.DataFrame
    risk: Float64

    @property
    def label(self) -> Float64:
        return self.frame["label"].to_numpy(np.float64)

    def part(self, what: str, rows: NDArray[np.bool_]) -> "Place":
        return Place(what, self.frame[rows], self.risk[rows])


@dataclass(frozen=True)
class Study:
    """Where a model learned, its frozen threshold, and places it is taken to; in ``blind`` the signs mean something else."""

    learned: Place
    threshold: float
    places: list[Place]
    blind: list[Place]


@dataclass(frozen=True)
class Changed:
    """A source of some of the patients, measured otherwise."""

    source: Source
    patients: Collection[str]
    change: Change

    name, simulated, deidentified = "changed", False, True

    @property
    def task(self) -> str:
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
    """One half of the patients of a unit learned from; the other half, other units, and the other half measured otherwise."""
    source, service = Cinc2019(data), list(SERVICES[TASKS["sepsis"].feature_service])
    everybody = read(source, service, "set A")
    half = folds(everybody["subject_id"], everybody["label"].to_numpy() == 1, 2, seed=SEED)
    here = (everybody["unit"] == UNIT).fillna(False).to_numpy(bool)
    training = everybody[here & (half == 0)].reset_index(drop=True)
    patients = set(everybody.loc[here & (half == 1), "subject_id"])
    habits = read(Changed(source, set(training["subject_id"]), remeasured), service, "habits")
    way = Augmented(np.arange(len(training)), habits, np.ones(len(training)), "other_habits")
    model, learned, threshold = _learn("sepsis", training, [way])
    home = _place(model, "the same unit: no shift", everybody[here & (half == 1)])
    age, hours = home.frame["age"], (home.frame["index_time"] - home.frame["start"]) / pd.Timedelta(hours=1)
    places = [
        home,
        home.part("under 50 years old", (age < 50).to_numpy()),
        home.part("80 and over", (age >= 80).to_numpy()),
        home.part("NEWS2 of 7 or more", (home.frame["news2"] >= 7).to_numpy()),
        home.part("first 12 h", (hours < 12).to_numpy()),
        home.part("24 to 36 h", hours.between(24, 36, inclusive="left").to_numpy()),
        _place(model, "the surgical unit", everybody[(everybody["unit"] == "Unit2").fillna(False)]),
        _place(model, "unit not stated", everybody[everybody["unit"].isna()]),
    ]
    del everybody
    for what, change in (
        ("other habits of measuring", remeasured),
        ("half of all readings lost", _lost(Loss("", share=0.5))),
        ("no laboratory values", _lost(Loss("", signals=tuple(names("laboratory"))))),
        ("no heart rate, no respiratory rate", _lost(Loss("", signals=("heart_rate", "respiratory_rate")))),
    ):
        places.append(_place(model, what, read(Changed(source, patients, change), service, what)))
    return Study(learned, threshold, places, [_averted(home)])


def ward_study() -> Study:
    """The simulated ward learned from, and another one of another seed."""
    service = list(SERVICES[TASKS["deterioration"].feature_service])
    learn, judge = WARD_PATIENTS
    training, augmented = read_augmented(SimulatedWard(learn), service, "ward")
    source = SimulatedWard(judge, OTHER_SEED)
    model, learned, threshold = _learn("deterioration", training, augmented)
    home = _place(model, "the same kind of ward: no shift", read(source, service, "another ward"))
    subject, age = home.frame["subject_id"], home.frame["age"]
    worst = home.frame["news2"].groupby(subject).transform("mean")
    event = home.frame["label"].groupby(subject).transform("max") == 1
    third = folds(subject, np.zeros(len(subject), dtype=bool), 3, seed=SEED) == 0
    places = [
        home,
        home.part("75 and over", (age >= 75).to_numpy()),
        home.part("the sicker half, by mean NEWS2", (worst >= worst.median()).to_numpy()),
        home.part("75 and over of the sicker half", ((age >= 75) & (worst >= worst.median())).to_numpy()),
    ]
    for what, change in (
        ("half of all readings lost", _lost(Loss("", share=0.5))),
        ("no heart rate", _lost(Loss("", signals=("heart_rate",)))),
    ):
        places.append(_place(model, what, read(Changed(source, set(subject), change), service, what)))
    more = home.part("two of three without an event left out", event.to_numpy() | third)
    return Study(learned, threshold, places, [more, _exchanged(home)])


def _learn(task: str, training: pd.DataFrame, augmented: Sequence[Augmented]) -> tuple[RiskModel, Place, float]:
    features = learned_features(SERVICES[TASKS[task].feature_service])
    model = trees(features, hourly=True, seed=SEED).set_params(**CHEAPER)
    risk = model.cross_fit(training, training["label"], training["subject_id"], augmented)
    watch = Watch.of(training[LABELLED].assign(probability=risk))
    threshold = threshold_at_budget(watch, TASKS[task].promise.alarms_per_patient_day)
    known = training["label"].notna().to_numpy()
    return model, Place("out of fold", training[known], risk[known]), threshold


def _place(model: RiskModel, what: str, frame: pd.DataFrame) -> Place:
    known = frame[frame["label"].notna()].reset_index(drop=True)
    return Place(what, known, model.risk(known))


def _lost(loss: Loss) -> Change:
    return lambda observations: observations[loss.kept(observations, SEED)]


def _averted(place: Place) -> Place:
    """Half of the patients with an event were treated in time: the same signs, and no event."""
    half = folds(place.frame["subject_id"], place.label == 1, 2, seed=SEED) == 0
    return replace(place, what="half of the events averted", frame=place.frame.assign(label=np.where(half, 0.0, place.label)))


def _exchanged(place: Place) -> Place:
    """Risks of one hour beside the outcome of another: signs mean nothing any more."""
    order = np.random.default_rng(SEED).permutation(place.frame["subject_id"].unique())
    turned = place.frame["subject_id"].map(dict(zip(order, np.roll(order, 1), strict=True)))
    label, hour = place.frame["label"], place.frame.groupby("subject_id").cumcount()
    by_hour = pd.Series(label.to_numpy(), pd.MultiIndex.from_arrays([place.frame["subject_id"], hour]))
    others = by_hour.reindex(pd.MultiIndex.from_arrays([turned, hour])).to_numpy()
    kept = ~np.isnan(others)
    return Place("risks beside another patient's outcome", place.frame[kept].assign(label=others[kept]), place.risk[kept])


@dataclass(frozen=True)
class Compared:
    """What was measured in a place, and what each way said before.

    Attributes:
        measured: with the interval of the AUROC and the AUPRC.
        said: way -> figure -> value; ours with intervals.
        spoils: whether the signs mean something else here.
    """

    place: Place
    measured: Figures
    said: dict[str, Figures]
    spoils: bool

    def error(self, way: str, figure: str) -> float:
        return self.said[way][figure] - self.measured[figure]

    @property
    def cells(self) -> list[str]:
        subject = self.place.frame["subject_id"]
        found = [self.place.what, f"{subject.nunique():,}", f"{subject[self.place.label == 1].nunique():,}"]
        found.append(f"{self.measured['prevalence']:.2%}".replace("%", " %"))
        for figure in ("auroc", "auprc"):
            found += [_with_interval(self.said[OURS], figure), _with_interval(self.measured, figure)]
            found += [f"{self.error(way, figure):+.3f}" for way in (OURS, WAYS[-1])]
        return found


def compare(study: Study) -> list[Compared]:
    """Every way in every place."""
    learned, threshold = study.learned, study.threshold
    before = measure(learned, threshold)
    expected_before = _estimate(learned, threshold, None)
    reliability = Reliability.fit(learned.risk, learned.label, learned.frame["subject_id"], seed=SEED)
    found = []
    for number, place in enumerate((*study.places, *study.blind)):
        ours, plain = _estimate(place, threshold, reliability), _estimate(place, threshold, None)
        difference = {name: before[name] + plain[name] - expected_before[name] for name in FIGURES}
        weighted = _estimate(place, threshold, _weighted(learned, place, reliability))
        said = dict(zip(WAYS, (ours, plain, difference, weighted, before), strict=True))
        found.append(Compared(place, measure(place, threshold), said, number >= len(study.places)))
    return found


def measure(place: Place, threshold: float) -> Figures:
    """The figures with labels; AUROC and AUPRC with intervals."""
    label, risk = place.label, place.risk
    above = risk >= threshold
    draws = discrimination_draws(label, risk, Resamples.of(place.frame["subject_id"], SEED))
    found = {**discrimination(label, risk), "brier": calibration(label, risk)["brier"]}
    found |= {"precision": float(label[above].mean()), "recall": float(label[above].sum() / label.sum())}
    for name in ("auroc", "auprc"):
        found[f"{name}_low"], found[f"{name}_high"] = percentile(draws[name])
    return found


def _estimate(place: Place, threshold: float, reliability: Reliability | None) -> Figures:
    return estimate(place.risk, place.frame["subject_id"], threshold, seed=SEED, reliability=reliability)


def _weighted(learned: Place, place: Place, reliability: Reliability) -> Reliability:
    """Reliability of the same bins by a logistic fit to training rows, weighted by how much likelier they are here."""
    features = [name for name in learned.frame if name in FEATURES]
    generator = np.random.default_rng(SEED)
    there, here = (frame[features].to_numpy(np.float32) for frame in (learned.frame, place.frame))
    drawn = [rows[generator.choice(len(rows), min(_COMPARED, len(rows)), replace=False)] for rows in (there, here)]
    origin = np.repeat([0, 1], [len(rows) for rows in drawn])
    likeness = lightgbm.LGBMClassifier(
        n_estimators=60, num_leaves=8, min_child_samples=200, colsample_bytree=0.5, n_jobs=1, random_state=SEED, verbosity=-1
    ).fit(np.concatenate(drawn), origin)
    weight = np.exp(likeness.booster_.predict(there, raw_score=True, num_threads=1))
    weight = np.minimum(weight, np.quantile(weight, _WIDEST))
    margin = log_odds(learned.risk)[:, None]
    fitted = LogisticRegression(C=np.inf).fit(margin, learned.label, sample_weight=weight / weight.mean())
    bins = np.searchsorted(reliability.highest, learned.risk)
    chance = np.bincount(bins, fitted.predict_proba(margin)[:, 1]) / np.bincount(bins)
    return replace(reliability, chance=chance, draws=np.tile(chance, (RESAMPLES, 1)))


def estimated_section(data: Path) -> Section:
    """Both studies: errors of every way, and ours place by place."""
    return section({"set A": compare(cinc2019_study(data)), "simulated ward": compare(ward_study())})


def section(studies: dict[str, list[Compared]]) -> Section:
    rows = []
    for name, places in studies.items():
        seen = [place for place in places if not place.spoils]
        for place in places:
            cells = place.cells
            rows.append([f"{name}: {cells[0]}" + (" (**cannot be seen**)" if place.spoils else ""), *cells[1:]])
        means = [f"**{_mean_error(seen, way, figure):.3f}**" for figure in ("auroc", "auprc") for way in (OURS, WAYS[-1])]
        rows.append(
            [f"**{name}: mean absolute error of the {len(seen)} above**", "", "", "", "", "", *means[:2], "", "", *means[2:]]
        )
    head = ["patients of another kind, or otherwise measured", "patients", "with event", "prevalence"]
    for figure in ("AUROC", "AUPRC"):
        head += [f"{figure} estimated", "measured", "error", "error if training's stays"]
    return Section("Performance estimated without labels", f"{_TEXT}\n\n{_errors(studies)}\n\n{_inside(studies)}", head, rows)


def _errors(studies: dict[str, list[Compared]]) -> str:
    """Mean absolute errors of every way as a table."""
    lines = [["mean absolute error", *FIGURES], ["---"] * (1 + len(FIGURES))]
    for name, places in studies.items():
        seen = [place for place in places if not place.spoils]
        lines += [[f"{name}: {way}", *(f"{_mean_error(seen, way, figure):.4f}" for figure in FIGURES)] for way in WAYS]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _inside(studies: dict[str, list[Compared]]) -> str:
    seen = [place for places in studies.values() for place in places if not place.spoils]
    inside = sum(p.said[OURS]["auroc_low"] <= p.measured["auroc"] <= p.said[OURS]["auroc_high"] for p in seen)
    apart = sum(
        p.said[OURS]["auroc_low"] > p.measured["auroc_high"] or p.said[OURS]["auroc_high"] < p.measured["auroc_low"]
        for p in seen
    )
    nearer = {
        figure: sum(abs(p.error(OURS, figure)) < abs(p.error(WAYS[-1], figure)) for p in seen) for figure in ("auroc", "auprc")
    }
    return (
        f"Without the shifts that cannot be seen, the measured AUROC lay inside the estimate's interval in {inside} of "
        f"{len(seen)} places, and the two intervals did not touch in {apart}. The estimate was nearer than the out-of-fold "
        f"figure in {nearer['auroc']} of them for the AUROC, and in {nearer['auprc']} for the AUPRC."
    )


def _mean_error(places: list[Compared], way: str, figure: str) -> float:
    return float(np.mean([abs(place.error(way, figure)) for place in places]))


def _with_interval(figures: Figures, name: str) -> str:
    return f"{figures[name]:.3f} ({figures[f'{name}_low']:.3f}-{figures[f'{name}_high']:.3f})"
