"""Faults that no reading shows: other patients, another version, other frequencies, other meanings."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from models.evaluation.calibration import shift
from models.monitoring.detectors.evidence import Evidence
from models.monitoring.detectors.finding import Finding
from models.monitoring.detectors.step_changes import DAY

Float64 = NDArray[np.float64]

MIX_ALPHA: Final = 1e-4  # of age, and of severity: looked at daily, one false alarm in more than ten years
SEVERITY: Final = "news2"
LEAST_PATIENTS: Final = 10
LEAST_EVENTS: Final = 5  # and as many patients without one
RANKING_ALPHA: Final = 1e-4  # a model is withdrawn for it, and one that has lost its meaning is far beyond
OUTCOME_ALPHA: Final = 5e-3  # some weeks are looked at once: one false alarm in some six years
ALIKE: Final = 0.05  # p from which patients with an event, and those without, are taken to look as in training
EXPECTED_WRONG: Final = 1.25  # times as many events as predicted, or as few: less asks for no recalibration
AREA_LOST: Final = 0.05  # AUROC: less is no other meaning
_DRAWS: Final = 500


def older_or_younger(evidence: Evidence) -> Iterator[Finding]:
    """Patients of another age than those the model learned from; sicker or not, which no reading fault can feign."""
    yield from _mix(evidence, "age", ("older", "younger"))


def sicker_or_healthier(evidence: Evidence) -> Iterator[Finding]:
    """Patients of the usual age who are sicker or healthier than those the model learned from."""
    yield from _mix(evidence, SEVERITY, ("sicker", "healthier"))


def _mix(evidence: Evidence, column: str, words: tuple[str, str]) -> Iterator[Finding]:
    """Ranks today's patients among the days of training patients: one who stays long is there on many days, as on a ward."""
    log, usual = evidence.log, evidence.population
    if log is None or usual is None or column not in log or column not in usual:
        return
    now = log.groupby("subject_id", observed=True)[column].mean().dropna()
    days = usual.groupby(["subject_id", "day"])[column].mean().dropna()
    patients = days.index.get_level_values("subject_id").nunique()
    if len(now) < LEAST_PATIENTS or patients < LEAST_PATIENTS:
        return
    more = float(stats.mannwhitneyu(now, days).statistic) / (len(now) * len(days))
    # Days of one patient resemble each other, so that the reference is worth no more than it has patients.
    z = (more - 0.5) / np.sqrt((len(now) + patients + 1) / (12 * len(now) * patients))
    p = 2 * stats.norm.sf(abs(z))
    if p < MIX_ALPHA:
        said = (
            f"{len(now)} patients are {words[more < 0.5]} than those the model learned from: one of them has more {column} "
            f"with probability {more:.2f} (p = {p:.0e}); median {now.median():.0f}, usually {days.median():.0f}"
        )
        yield Finding("case_mix", None, "ward", (), evidence.until - DAY, len(now), len(now), said)


def versions(evidence: Evidence) -> Iterator[Finding]:
    """Predictions of another version than the champion's, or of features that are not its own."""
    log = evidence.log
    if log is None or log.empty or evidence.champion is None:
        return
    for column, expected in zip(("model_version", "feature_service"), evidence.champion, strict=True):
        other = (log[column].astype(str) != str(expected)).to_numpy()
        if other.any():
            which = ", ".join(sorted(set(log.loc[other, column].astype(str))))
            said = f"{other.mean():.0%} of the predictions say {column} {which}; the champion's is {expected}"
            hit = log.loc[other, "subject_id"].nunique()
            since = pd.Timestamp(log.loc[other, "index_time"].min())
            yield Finding("version_mismatch", None, "ward", (), since, hit, log["subject_id"].nunique(), said)
            return


def outcomes(evidence: Evidence) -> Iterator[Finding]:
    """What labels say once they arrived: events of another frequency, or risks that no longer rank patients.

    Prevalence (label shift, Lipton ZC et al., ICML 2018): more events or fewer than in training, while those with an
    event look as those with one did, and those without as those without; or, given their risks, more or fewer than
    those say. Other patients (case mix) look otherwise, and have as many as their risks say. Where signs mean something
    else the ranking is lost, beside what it would be if the risks were right (van Klaveren D et al., Stat Med
    2016;35:4136-52), since how well risks can rank depends on how different the patients are.
    """
    judged, reference = evidence.judged, evidence.judged_reference
    if judged is None or reference is None or _few(judged) or _few(reference):
        return
    # What a risk means: the frequency of events among training patients of such a risk.
    fitted = LogisticRegression(C=np.inf).fit(_logit(reference)[:, None], reference["event"].astype(int))
    usual = expit(fitted.decision_function(_logit(reference)[:, None]))
    score = fitted.decision_function(_logit(judged)[:, None])
    lost = list(_ranking(judged, reference, score))
    # Where risks mean nothing any more, no number of events is to be expected of them.
    yield from lost or _frequency(judged, reference, expit(score), usual)


def _frequency(judged: pd.DataFrame, reference: pd.DataFrame, expected: Float64, usual: Float64) -> Iterator[Finding]:
    n, events, predicted = len(judged), int(judged["event"].sum()), float(expected.sum())
    spread, known = float((expected * (1 - expected)).sum()), float((usual * (1 - usual)).sum())
    # That of the events themselves, and of what the reference knows of their frequency.
    given_risks = 2 * stats.norm.sf(abs(events - predicted) / np.sqrt(spread + spread**2 / known))
    before = int(reference["event"].sum())
    among_all = float(stats.fisher_exact([[events, n - events], [before, len(reference) - before]]).pvalue)
    kinds = [[rows.loc[(rows["event"] == event).to_numpy(), "risk"] for rows in (judged, reference)] for event in (True, False)]
    same = min(float(stats.mannwhitneyu(*pair).pvalue) for pair in kinds)
    share, before_share = events / n, before / len(reference)
    if among_all < OUTCOME_ALPHA and same > ALIKE:
        times, p = share / before_share, among_all
        said = (
            f"{events} of {n} patients had an event, {before_share:.0%} in training (p = {p:.0e}), and both kinds look as ever"
        )
    else:
        times, p = events / predicted, given_risks
        said = f"{events} of {n} patients had an event, {predicted:.0f} were to be expected of their risks (p = {p:.0e})"
    if p < OUTCOME_ALPHA and max(times, 1 / times) >= EXPECTED_WRONG:
        yield Finding("prevalence", None, "ward", (), pd.Timestamp(judged["index_time"].min()), events, n, said)


def _ranking(judged: pd.DataFrame, reference: pd.DataFrame, score: Float64) -> Iterator[Finding]:
    n, found = len(judged), area(judged)
    # What the AUROC would be if risks meant what they mean in training, with as many events as there were.
    score = score + shift(judged["event"].to_numpy(np.float64), score)
    rng = np.random.default_rng(0)
    drawn = [judged.assign(event=rng.random(n) < expit(score)) for _ in range(_DRAWS)]
    areas = np.array([area(one) for one in drawn if not _few(one, 1)])
    if not len(areas):
        return
    right = float(areas.mean())
    z = (found - right) / np.hypot(float(areas.std()), area_error(reference))
    if stats.norm.cdf(z) < RANKING_ALPHA and right - found >= AREA_LOST:
        said = f"risks rank patients with an AUROC of {found:.2f}; {right:.2f} is to be expected of them (z = {z:.1f})"
        yield Finding("concept", None, "ward", (), pd.Timestamp(judged["index_time"].min()), n, n, said)


def _few(rows: pd.DataFrame, least: int = LEAST_EVENTS) -> bool:
    events = int(rows["event"].sum())
    return min(events, len(rows) - events) < least


def _logit(rows: pd.DataFrame) -> Float64:
    odds: Float64 = logit(np.clip(rows["risk"].to_numpy(np.float64), 1e-6, 1 - 1e-6))
    return odds


def area(rows: pd.DataFrame) -> float:
    """AUROC of the patients' risks."""
    event = rows["event"].to_numpy(bool)
    rank = stats.rankdata(rows["risk"])
    positive, negative = event.sum(), (~event).sum()
    return float((rank[event].sum() - positive * (positive + 1) / 2) / (positive * negative))


def area_error(rows: pd.DataFrame) -> float:
    """Its standard error (Hanley JA, McNeil BJ. Radiology 1982;143:29-36)."""
    a = area(rows)
    positive = rows["event"].sum()
    negative = len(rows) - positive
    first, second = a / (2 - a), 2 * a**2 / (1 + a)
    spread = a * (1 - a) + (positive - 1) * (first - a**2) + (negative - 1) * (second - a**2)
    return float(np.sqrt(spread / (positive * negative)))
