"""Examination of a model's behaviour: every vignette and every directional test."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, Final

import pandas as pd

from vigil.models.behaviour.directions import RiskOf, measure_history_effect, measure_removal, measure_worsening
from vigil.models.behaviour.moments import MOST_MOMENTS, choose_moments, split_into_moments
from vigil.models.behaviour.vignettes import (
    HISTORIES,
    Answer,
    Outcome,
    Vignette,
    build_records,
    build_rows,
    evaluate_vignettes,
    load_vignettes,
)
from vigil.models.domain import DomainOfUse

# The largest share of answers above the highest right band, among vignettes that have one. The limit is ours. No answer may be
# too low: an unnecessary review costs minutes, and a missed one may cost a life. But a ward stops trusting a model that calls a
# quarter of well patients ill.
MOST_TOO_HIGH: Final = 0.25


def examine_behaviour(
    answer: Answer,
    risk: RiskOf,
    views: Iterable[str],
    observations: pd.DataFrame,
    index: pd.DataFrame,
    *,
    at_most: int = MOST_MOMENTS,
) -> dict[str, Any]:
    """Run every vignette and every directional test on a model.

    Args:
        answer: function from feature rows to full answers, of model, safety net and domain of use together.
        risk: function from feature rows to the model's probabilities alone.
        views: feature views that both read, including those of the safety net.
        observations: checked observations of patients that the model has not seen.
        index: their index times, as :func:`vigil.features.batch.build_features` expects them.
        at_most: the number of index times to try.

    Returns:
        ``vignettes, worsening, history, removal`` and ``removal_of_vignettes``. Each has ``passed`` and its evidence, in plain
        numbers, text, lists and dictionaries.
    """
    views, library = tuple(views), load_vignettes()
    chosen = choose_moments(observations, index, at_most=at_most)
    ill_patients = split_into_moments(*_build_all_records([vignette for vignette in library if vignette.at_least == "high"]))
    return {
        "vignettes": summarise_outcomes(library, evaluate_vignettes(answer, library, views)),
        "worsening": measure_worsening(risk, chosen, views),
        "history": measure_history_effect(risk, chosen, views),
        "removal": measure_removal(answer, chosen, views),
        "removal_of_vignettes": measure_removal(answer, ill_patients, views),
    }


def summarise_outcomes(vignettes: Sequence[Vignette], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Summarise the outcomes of vignettes.

    Returns:
        ``shown``: the number of answers. ``answers``: per vignette its ``vignette, title, news2, expected``, the answer
        ``found`` with each history, and ``faults`` by history. ``failed``: the outcomes that are not as expected. ``bounded,
        too_high, share``: the number of answers with a highest right band, and how many are above it. ``passed``: whether no
        answer has another fault and the share is within :data:`MOST_TOO_HIGH`.
    """
    bounded = {vignette.name for vignette in vignettes if vignette.at_most is not None}
    bounded_answers = sum(outcome.vignette in bounded for outcome in outcomes)
    failed = [outcome for outcome in outcomes if not outcome.passed]
    too_high = sum(outcome.fault == "band_too_high" for outcome in failed)
    share = too_high / bounded_answers if bounded_answers else 0.0
    return {
        "shown": len(outcomes), "answers": [_answers_to(vignette, outcomes) for vignette in vignettes],
        "failed": [asdict(outcome) for outcome in failed],
        "bounded": bounded_answers, "too_high": too_high, "share": share,
        "passed": len(failed) == too_high and share <= MOST_TOO_HIGH,
    }  # fmt: skip


def count_vignettes_outside(domain: DomainOfUse, views: Iterable[str]) -> dict[str, Any]:
    """Count the vignettes outside a model's domain of use, each with every one of its histories.

    Outside the domain of use NEWS2 answers.

    Args:
        domain: the model's domain of use.
        views: feature views that the model reads.

    Returns:
        ``shown``, ``outside``, and ``reasons``: the number of times each value was unusual, the most frequent first.
    """
    views, library = tuple(views), load_vignettes()
    unusual = [words for history in HISTORIES for words in domain.unusual(build_rows(library, history, views))]
    reasons = Counter(word for words in unusual for word in words)
    return {"shown": len(unusual), "outside": sum(bool(words) for words in unusual), "reasons": dict(reasons.most_common())}


def _answers_to(vignette: Vignette, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the expectation of a vignette, and its answers and faults by history."""
    own_outcomes = [outcome for outcome in outcomes if outcome.vignette == vignette.name]
    return {
        "vignette": vignette.name, "title": vignette.title, "news2": vignette.news2, "expected": vignette.expected,
        "found": {outcome.history: outcome.found for outcome in own_outcomes},
        "faults": {outcome.history: outcome.fault for outcome in own_outcomes if outcome.fault is not None},
    }  # fmt: skip


def _build_all_records(vignettes: Sequence[Vignette]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Build the records of vignettes with each of their histories, each as a subject of its own."""
    readings: list[pd.DataFrame] = []
    index: list[pd.DataFrame] = []
    for history in HISTORIES:
        for frames, frame in zip((readings, index), build_records(vignettes, history), strict=True):
            frames.append(frame.assign(subject_id=frame["subject_id"] + f".{history}"))
    return pd.concat(readings, ignore_index=True), pd.concat(index, ignore_index=True)
