"""A risk as the service reports it, or the reason why there is none. Every door (HTTP today) shows these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from vigil.features.signals import SIGNALS
from vigil.models.alarms.critical_bounds import Bound
from vigil.models.alarms.patient_terms import Breach, PatientTerms, causes_of
from vigil.models.assessment import Assessment
from vigil.models.registry import RegisteredModel
from vigil.models.tasks import RiskTask
from vigil.serving.records.journal_lookups import Latest
from vigil.serving.records.silence_rows import Silence
from vigil.serving.scoring.critical import find_critical

MAX_CONTRIBUTIONS: Final = 5  # the strongest signals of a report

Include = Literal["contributions", "range"]


@dataclass(frozen=True, slots=True)
class Contribution:
    """How much one signal moved the log-odds of a risk from the average patient's.

    Attributes:
        measured: whether a value of the signal is known; None for what is not measured, such as age.
    """

    signal: str
    log_odds: float
    measured: bool | None


@dataclass(frozen=True, slots=True)
class RiskReport:
    """A risk as of a time, as it was logged.

    Attributes:
        prediction_id: its name in the prediction log.
        risk: the assessment.
        as_of: the time that was asked about.
        task: the question.
        model: the model that could be asked; None: there is none, or it was withdrawn.
        feature_service: the features that were read.
        range: lowest and highest probability that the evidence supports; None: not wanted, or no probability.
        contributions: the strongest first; None: not wanted, or the model cannot say.
        senders: who sent the latest value of each NEWS2 component, where the journal knows.
        bounds: that stand at :attr:`as_of`.
        terms: what staff decided for the patient, as it holds at :attr:`as_of`; None: nothing.
        reached: limits of the patient that their latest values reach.
        stopped: signals that had stopped at :attr:`as_of`.
    """

    prediction_id: str
    risk: Assessment
    as_of: pd.Timestamp
    task: RiskTask
    model: RegisteredModel | None
    feature_service: str
    range: tuple[float, float] | None = None
    contributions: list[Contribution] | None = None
    senders: Mapping[str, Latest] = field(default_factory=dict)
    bounds: tuple[Bound, ...] = ()
    terms: PatientTerms | None = None
    reached: tuple[Breach, ...] = ()
    stopped: tuple[Silence, ...] = ()

    def with_stopped(self, stopped: tuple[Silence, ...]) -> "RiskReport":
        """Return the report with the signals that have stopped; any is a finding."""
        return replace(self, stopped=stopped, risk=self.risk.with_stopped_signal()) if stopped else self

    def with_bounds(self, bounds: tuple[Bound, ...], terms: PatientTerms | None = None) -> "RiskReport":
        """Return the report with the bounds that stand, and the patient's terms. What is critical makes the band high."""
        critical = find_critical(self.risk, bounds, terms)
        reached = tuple(one for one in critical if isinstance(one, Breach))
        risk = self.risk.with_critical(causes_of(critical))
        return replace(self, bounds=bounds, terms=terms, reached=reached, risk=risk)

    @property
    def features_hours(self) -> float:
        """Age of the features at :attr:`as_of`, hours."""
        return (self.as_of - self.risk.index_time).total_seconds() / 3600

    @property
    def latest_reading_hours(self) -> float | None:
        """Age of the latest reading at :attr:`as_of`, hours; None: none within a day."""
        since = self.risk.hours_since_reading
        if since is None:
            return None
        # For features that are out of date these hours are those of the present already.
        return since + (0.0 if "stale_data" in self.risk.findings else self.features_hours)


@dataclass(frozen=True, slots=True)
class NoReport:
    """Why there is no risk of a subject.

    Attributes:
        reason: ``unknown_subject``: neither feature store nor journal knows them; ``unavailable``: the store that may know them
            cannot be read; ``too_early``: what is stored knows more than the time asked about may.
        hours_too_early: by how much.
    """

    reason: Literal["unknown_subject", "unavailable", "too_early"]
    hours_too_early: float = 0.0


def strongest_contributions(contributions: Mapping[Any, float], row: "pd.Series[Any]") -> list[Contribution]:
    """Return the signals that moved the log-odds most, the strongest first.

    Args:
        contributions: log-odds by signal.
        row: the features, which tell whether a signal was measured.
    """
    ranked = sorted(contributions.items(), key=lambda item: -abs(item[1]))[:MAX_CONTRIBUTIONS]
    return [Contribution(signal, float(value), _is_measured(signal, row)) for signal, value in ranked]


def contributions_of(
    model: RegisteredModel | None, rows: pd.DataFrame, risks: Sequence[Assessment]
) -> list[list[Contribution] | None]:
    """Return the strongest contributions of each probability; None where there is none, or the model cannot say."""
    if model is None or not model.model.can_explain:
        return [None] * len(risks)
    contributions = model.model.contributions(rows).drop(columns="baseline").to_dict("records")
    return [
        strongest_contributions(contribution, rows.iloc[row]) if risk.basis == "model" else None
        for row, (contribution, risk) in enumerate(zip(contributions, risks, strict=True))
    ]


def range_of(model: RegisteredModel | None, risk: Assessment) -> tuple[float, float] | None:
    """Return the lowest and highest probability that the evidence supports; None without a probability."""
    if model is None or risk.probability is None:
        return None
    low, high = model.model.range_of(np.array([risk.probability]))
    return float(low[0]), float(high[0])


def _is_measured(signal: str, row: "pd.Series[Any]") -> bool | None:
    if signal not in SIGNALS:
        return None
    return any(name in row and bool(pd.notna(row[name])) for name in (f"{signal}_last_24h", f"{signal}_last_72h"))
