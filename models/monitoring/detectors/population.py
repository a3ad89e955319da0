"""Faults that no reading shows: other patients, another version, other frequencies of events, other meanings of signs."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from vigil.models.evaluation.calibration import fit_shift
from vigil.models.monitoring.detectors.evidence import Evidence
from vigil.models.monitoring.detectors.finding import Finding
from vigil.models.monitoring.detectors.step_changes import DAY
from vigil.models.statistics.ranks import auroc, compare_clustered

Float64 = NDArray[np.float64]

MIX_ALPHA: Final = 1e-4  # of age, and of severity: tested daily, one false alarm in more than ten years
SEVERITY: Final = "news2"
LEAST_PATIENTS: Final = 10
LEAST_EVENTS: Final = 5  # and as many patients without one
RANKING_ALPHA: Final = 1e-4  # a model is withdrawn for it, and one that has lost its meaning is far beyond
OUTCOME_ALPHA: Final = 5e-3  # some weeks are tested at once: one false alarm in some six years
ALIKE: Final = 0.05  # p from which patients with an event, and those without, are taken to look as in training
EXPECTED_WRONG: Final = 1.25  # times as many events as predicted, or as few: less needs no recalibration
AREA_LOST: Final = 0.05  # AUROC: less is no other meaning
_DRAWS: Final = 500


def detect_age_mix(evidence: Evidence) -> Iterator[Finding]:
    """Yield patients of another age than those the model learned from. No fault of readings can cause it."""
    yield from _detect_mix(evidence, "age", ("older", "younger"))


def detect_severity_mix(evidence: Evidence) -> Iterator[Finding]:
    """Yield patients who are sicker or healthier than those the model learned from."""
    yield from _detect_mix(evidence, SEVERITY, ("sicker", "healthier"))


def _detect_mix(evidence: Evidence, column: str, words: tuple[str, str]) -> Iterator[Finding]:
    """Rank today's patients among the days of training patients; a patient who stays long has many days, as on a ward."""
    log, population = evidence.log, evidence.population
    if log is None or population is None or column not in log or column not in population:
        return
    now = log.groupby("subject_id", observed=True)[column].mean().dropna()
    days = population.groupby(["subject_id", "day"])[column].mean().dropna()
    patients = days.index.get_level_values("subject_id").nunique()
    if len(now) < LEAST_PATIENTS or patients < LEAST_PATIENTS:
        return
    more, p = compare_clustered(now.to_numpy(np.float64), days.to_numpy(np.float64), patients, correct_ties=False)
    if p < MIX_ALPHA:
        text = (
            f"{len(now)} patients are {words[more < 0.5]} than those the model learned from: one of them has more {column} "
            f"with probability {more:.2f} (p = {p:.0e}); median {now.median():.0f}, usually {days.median():.0f}"
        )
        yield Finding("case_mix", None, "ward", (), evidence.until - DAY, len(now), len(now), text)


def detect_version_mismatch(evidence: Evidence) -> Iterator[Finding]:
    """Yield predictions of another model version than the champion's, or of another feature service."""
    log = evidence.log
    if log is None or log.empty or evidence.champion is None:
        return
    for column, expected in zip(("model_version", "feature_service"), evidence.champion, strict=True):
        other = (log[column].astype(str) != str(expected)).to_numpy()
        if other.any():
            versions = ", ".join(sorted(set(log.loc[other, column].astype(str))))
            text = f"{other.mean():.0%} of the predictions are of {column} {versions}; the champion's is {expected}"
            hit = log.loc[other, "subject_id"].nunique()
            since = pd.Timestamp(log.loc[other, "index_time"].min())
            yield Finding("version_mismatch", None, "ward", (), since, hit, log["subject_id"].nunique(), text)
            return


def detect_outcome_shift(evidence: Evidence) -> Iterator[Finding]:
    """Yield what known outcomes show: events of another frequency, or risks that no longer rank patients.

    *Prevalence* is label shift (Lipton ZC et al., ICML 2018). Events are more or less frequent than in training, while
    patients with an event look like those with one in training, and patients without like those without. It is also found
    where events are more or less frequent than the risks predict. *Case mix* is no prevalence: such patients look
    different, and have as many events as their risks predict.

    *Concept*: where signs mean something else, the ranking is lost. It is compared with the ranking that there would be if the
    risks were right (van Klaveren D et al., Stat Med 2016;35:4136-52), since how well risks can rank depends on how
    different the patients are.
    """
    judged, reference = evidence.judged, evidence.judged_reference
    if judged is None or reference is None or _has_few_events(judged) or _has_few_events(reference):
        return
    # The meaning of a risk: the frequency of events among training patients of such a risk.
    fitted = LogisticRegression(C=np.inf).fit(_logit(reference)[:, None], reference["event"].astype(int))
    usual = expit(fitted.decision_function(_logit(reference)[:, None]))
    score = fitted.decision_function(_logit(judged)[:, None])
    ranking = list(_detect_lost_ranking(judged, reference, score))
    # Risks without meaning predict no number of events.
    yield from ranking or _detect_other_frequency(judged, reference, expit(score), usual)


def _detect_other_frequency(
    judged: pd.DataFrame, reference: pd.DataFrame, expected: Float64, usual: Float64
) -> Iterator[Finding]:
    """Compare the number of events with training, and with the number that the risks predict."""
    n, events, predicted = len(judged), int(judged["event"].sum()), float(expected.sum())
    variance, known = float((expected * (1 - expected)).sum()), float((usual * (1 - usual)).sum())
    # Variance of the events themselves, and of what the reference knows about their frequency.
    given_risks = 2 * stats.norm.sf(abs(events - predicted) / np.sqrt(variance + variance**2 / known))
    before = int(reference["event"].sum())
    overall = float(stats.fisher_exact([[events, n - events], [before, len(reference) - before]]).pvalue)
    pairs = [[rows.loc[(rows["event"] == event).to_numpy(), "risk"] for rows in (judged, reference)] for event in (True, False)]
    same = min(float(stats.mannwhitneyu(*pair).pvalue) for pair in pairs)
    share, before_share = events / n, before / len(reference)
    if overall < OUTCOME_ALPHA and same > ALIKE:
        times, p = share / before_share, overall
        text = (
            f"{events} of {n} patients had an event, {before_share:.0%} in training (p = {p:.0e}); patients with an event, and "
            "those without, look as in training"
        )
    else:
        times, p = events / predicted, given_risks
        text = f"{events} of {n} patients had an event, {predicted:.0f} were expected from their risks (p = {p:.0e})"
    if p < OUTCOME_ALPHA and max(times, 1 / times) >= EXPECTED_WRONG:
        yield Finding("prevalence", None, "ward", (), pd.Timestamp(judged["index_time"].min()), events, n, text)


def _detect_lost_ranking(judged: pd.DataFrame, reference: pd.DataFrame, score: Float64) -> Iterator[Finding]:
    """Compare the AUROC with the one that there would be if risks meant what they mean in training."""
    n, measured = len(judged), auroc(judged["event"], judged["risk"])
    # With as many events as there were.
    score = score + fit_shift(judged["event"].to_numpy(np.float64), score)
    rng = np.random.default_rng(0)
    drawn = [judged.assign(event=rng.random(n) < expit(score)) for _ in range(_DRAWS)]
    areas = np.array([auroc(rows["event"], rows["risk"]) for rows in drawn if not _has_few_events(rows, 1)])
    if not len(areas):
        return
    expected = float(areas.mean())
    z = (measured - expected) / np.hypot(float(areas.std()), area_error(reference))
    if stats.norm.cdf(z) < RANKING_ALPHA and expected - measured >= AREA_LOST:
        text = f"risks rank patients with an AUROC of {measured:.2f}; {expected:.2f} is expected (z = {z:.1f})"
        yield Finding("concept", None, "ward", (), pd.Timestamp(judged["index_time"].min()), n, n, text)


def _has_few_events(rows: pd.DataFrame, least: int = LEAST_EVENTS) -> bool:
    """Return whether fewer patients than ``least`` have an event, or have none."""
    events = int(rows["event"].sum())
    return min(events, len(rows) - events) < least


def _logit(rows: pd.DataFrame) -> Float64:
    odds: Float64 = logit(np.clip(rows["risk"].to_numpy(np.float64), 1e-6, 1 - 1e-6))
    return odds


def area_error(rows: pd.DataFrame) -> float:
    """Return the standard error of the AUROC (Hanley JA, McNeil BJ. Radiology 1982;143:29-36)."""
    a = auroc(rows["event"], rows["risk"])
    positive = rows["event"].sum()
    negative = len(rows) - positive
    first, second = a / (2 - a), 2 * a**2 / (1 + a)
    variance = a * (1 - a) + (positive - 1) * (first - a**2) + (negative - 1) * (second - a**2)
    return float(np.sqrt(variance / (positive * negative)))
