"""The examination of a model's behaviour: every vignette and every directional test, in plain figures."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, Final

import pandas as pd

from models.behaviour.directions import RiskOf, history, removal, worsening
from models.behaviour.moments import MOST_MOMENTS, exploded, moments
from models.behaviour.vignettes import HISTORIES, Answer, Outcome, Vignette, judge, load, rows, shown
from models.domain import DomainOfUse

# Share of the answers that may call a patient worse than is right, of those with a highest right band. Ours: a review that was
# not needed costs minutes, one that was missed may cost a life, so that no answer may be too low; but a ward stops believing
# a model that calls a quarter of the well ill.
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
    """Ask a model all that behaviour is judged by.

    Args:
        answer: the full answer to feature rows: model, safety net and domain of use.
        risk: the model's probability alone.
        views: of the features that both read; with the safety net's.
        observations: checked, of patients that the model has not seen.
        index: their index times, as :func:`features.batch.build_features` takes it.
        at_most: how many of the index times are tried.

    Returns:
        ``vignettes, worsening, history, removal`` and ``removal_of_vignettes``, each with ``passed`` and its figures: plain
        numbers, text, lists and dictionaries.
    """
    views, library = tuple(views), load()
    at = moments(observations, index, at_most=at_most)
    ill = exploded(*_all_shown([vignette for vignette in library if vignette.at_least == "high"]))
    return {
        "vignettes": summary(library, judge(answer, library, views)),
        "worsening": worsening(risk, at, views),
        "history": history(risk, at, views),
        "removal": removal(answer, at, views),
        "removal_of_vignettes": removal(answer, ill, views),
    }


def summary(vignettes: Sequence[Vignette], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return the figures of judged vignettes.

    Returns:
        ``shown``: the number of answers. ``answers``: by vignette, ``vignette, title, news2, expected``, what was ``found``
        with each history, and ``faults`` by history. ``failed``: the outcomes that are not as expected. ``bounded, too_high,
        share``: the answers with a highest right band, and how many are above it. ``passed``: whether none is wrong in
        another way, and the share keeps its limit.
    """
    bounded = {vignette.name for vignette in vignettes if vignette.at_most is not None}
    among = sum(outcome.vignette in bounded for outcome in outcomes)
    failed = [outcome for outcome in outcomes if not outcome.passed]
    too_high = sum(outcome.fault == "band_too_high" for outcome in failed)
    share = too_high / among if among else 0.0
    return {
        "shown": len(outcomes), "answers": [_answers(vignette, outcomes) for vignette in vignettes],
        "failed": [asdict(outcome) for outcome in failed],
        "bounded": among, "too_high": too_high, "share": share,
        "passed": len(failed) == too_high and share <= MOST_TOO_HIGH,
    }  # fmt: skip


def outside_vignettes(domain: DomainOfUse, views: Iterable[str]) -> dict[str, Any]:
    """Count the vignettes, with each of their histories, that are outside a model's domain of use: there NEWS2 answers.

    Args:
        domain: of the model.
        views: of the features that the model reads.

    Returns:
        ``shown``, ``outside``, and ``reasons``: how often each thing was unusual, the most frequent first.
    """
    views, library = tuple(views), load()
    unusual = [words for way in HISTORIES for words in domain.unusual(rows(library, way, views))]
    reasons = Counter(word for words in unusual for word in words)
    return {"shown": len(unusual), "outside": sum(bool(words) for words in unusual), "reasons": dict(reasons.most_common())}


def _answers(vignette: Vignette, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return what is expected of a vignette and what was found with each history."""
    of_it = [outcome for outcome in outcomes if outcome.vignette == vignette.name]
    return {
        "vignette": vignette.name, "title": vignette.title, "news2": vignette.news2, "expected": vignette.expected,
        "found": {outcome.history: outcome.found for outcome in of_it},
        "faults": {outcome.history: outcome.fault for outcome in of_it if outcome.fault is not None},
    }  # fmt: skip


def _all_shown(vignettes: Sequence[Vignette]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Vignettes with each of their histories, as different subjects."""
    readings: list[pd.DataFrame] = []
    index: list[pd.DataFrame] = []
    for way in HISTORIES:
        for frames, frame in zip((readings, index), shown(vignettes, way), strict=True):
            frames.append(frame.assign(subject_id=frame["subject_id"] + f".{way}"))
    return pd.concat(readings, ignore_index=True), pd.concat(index, ignore_index=True)
