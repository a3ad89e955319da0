"""Clinical vignettes: described patients with a known right answer, each with a short, a long or no history.

The library is ``vignettes.toml`` in this folder. Its header explains each field.
"""

import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self, get_args

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vigil.features.batch import build_features
from vigil.features.declarations import OWN_UNITS
from vigil.features.derived import MEASUREMENT_ERROR
from vigil.features.errors import VigilError
from vigil.features.observations import TIME, check
from vigil.features.signals import SIGNALS
from vigil.models.alarms.safety_net import Band, urgency_rank

if TYPE_CHECKING:
    from vigil.models.assessment import Assessment

History = Literal["none", "short_constant", "short_leading", "long_spaced", "long_hourly"]
Fault = Literal["band_too_low", "alarm", "findings", "band_too_high"]
HISTORIES: Final[tuple[History, ...]] = get_args(History)
Answer = Callable[[pd.DataFrame], "list[Assessment]"]
"""Function from feature rows to full answers, of model, safety net and domain of use together."""

LIBRARY: Final = Path(__file__).with_name("vignettes.toml")
SHOWN_AT: Final = pd.Timestamp("2026-01-15T12:00:00Z")  # any time will do: no feature reads the date

# The vital signs of a well adult: NEWS2 of 0, each near the middle of its normal range (ours). FiO2 is that of room air.
WELL: Final = {
    "heart_rate": 76.0, "respiratory_rate": 16.0, "spo2": 97.0, "systolic_bp": 126.0, "diastolic_bp": 76.0, "mean_bp": 93.0,
    "body_temperature": 36.7, "glucose": 105.0, "consciousness": 0.0, "on_oxygen": 0.0, "fio2": 21.0, "etco2": 38.0,
    "potassium": 4.2,
}  # fmt: skip
_SHORT_HOURS: Final = 5  # hourly sets 5, 4, .. 1 h before the last: six in all
_SPACED_HOURS: Final = 12  # the longest interval between sets of NEWS2 (RCP 2017, chart 4)
_HOURLY_HOURS: Final = 24  # as long as NEWS2 carries a value forward (features.derived.SCORE_CARRY_HOURS)


class VignetteError(VigilError):
    """A library of vignettes cannot be used."""


class Vignette(BaseModel):
    """One described patient and the answer expected for them.

    Attributes:
        name: identifier, also the ``subject_id`` of its rows.
        title: short description for readers.
        age: years.
        sex: 0 female, 1 male.
        pregnant: whether the patient is known to be pregnant.
        signs: the last set of vital signs, by signal, in the signal's unit.
        news2: the score that the chart gives for these signs, also where NEWS2 does not apply.
        at_least, at_most: lowest and highest right band; None: any.
        alarm: whether the safety net must sound an alarm; None: either is right.
        findings: findings that the answer must state.
        steady: whether the signs are usual for this person. If not, they started as those of a well adult.
        histories: the histories that the vignette is tried with.
        source, rationale: the source of the expectation, and the reason for it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    title: Annotated[str, Field(min_length=1)]
    age: Annotated[float, Field(ge=0, le=120)]
    sex: Literal[0, 1] | None = None
    pregnant: bool = False
    signs: Annotated[dict[str, float], Field(min_length=1)]
    news2: Annotated[int, Field(ge=0, le=20)]
    at_least: Band | None = None
    at_most: Band | None = None
    alarm: bool | None = None
    findings: tuple[str, ...] = ()
    steady: bool = False
    histories: Annotated[tuple[History, ...], Field(min_length=1)]
    source: Annotated[str, Field(min_length=1)]
    rationale: str = ""

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        for name, value in self.signs.items():
            if name not in SIGNALS:
                raise ValueError(f"signs: {name} is no signal; expected names of features/signals.py; correct the name")
            low, high = SIGNALS[name].low, SIGNALS[name].high
            if not low <= value <= high:
                raise ValueError(f"signs.{name} is implausible; expected {low:g} to {high:g} {SIGNALS[name].unit}")
            if not self.steady and name not in WELL:
                raise ValueError(f"signs.{name} has no value of a well adult; expected one in WELL, or steady = true")
        if self.at_least is None and self.at_most is None and self.alarm is None and not self.findings:
            raise ValueError("nothing is expected; expected at_least, at_most, alarm or findings")
        if self.at_least is not None and self.at_most is not None and urgency_rank(self.at_least) > urgency_rank(self.at_most):
            raise ValueError("at_least is above at_most; expected the lower band in at_least")
        if self.steady and "short_leading" in self.histories:
            raise ValueError("histories: short_leading of steady signs is short_constant; expected short_constant alone")
        return self

    @property
    def usual(self) -> dict[str, float]:
        """The vital signs before the present state started."""
        return self.signs if self.steady else {name: WELL[name] for name in self.signs}

    @property
    def expected(self) -> str:
        """The expected answer in words, for one line."""
        alarm = {None: "", True: "an alarm by NEWS2", False: "no alarm by NEWS2"}[self.alarm]
        if self.at_least is not None and self.at_least == self.at_most:
            band = f"band {self.at_least}"
        else:
            bounds = (("at least", self.at_least), ("at most", self.at_most))
            band = " and ".join(f"band {which} {limit}" for which, limit in bounds if limit is not None)
        return ", ".join(part for part in (band, alarm, *self.findings) if part)

    def fault_of(self, risk: "Assessment") -> Fault | None:
        """Return the most dangerous fault of an answer; None: the answer is as expected."""
        if self.at_least is not None and urgency_rank(risk.band) < urgency_rank(self.at_least):
            return "band_too_low"
        if self.alarm is not None and risk.is_emergency != self.alarm:
            return "alarm"
        if not set(self.findings) <= set(risk.findings):
            return "findings"
        return "band_too_high" if self.at_most is not None and urgency_rank(risk.band) > urgency_rank(self.at_most) else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to one vignette with one history.

    Attributes:
        vignette, history: names of the vignette and the history.
        expected, found: the expected and the actual answer in words, for one line.
        fault: the most dangerous fault of the answer, if any.
    """

    vignette: str
    history: History
    expected: str
    found: str
    fault: Fault | None

    @property
    def passed(self) -> bool:
        """Whether the answer is as expected."""
        return self.fault is None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    vignette: Annotated[tuple[Vignette, ...], Field(min_length=1)]


def load_vignettes(path: Path = LIBRARY) -> tuple[Vignette, ...]:
    """Read and validate a library of vignettes.

    Raises:
        VignetteError: the file cannot be read, or a vignette in it cannot be used.
    """
    try:
        library = _File.model_validate(tomllib.loads(path.read_text()))
    except ValidationError as error:
        first = error.errors()[0]
        raise VignetteError(
            f"{path.name}: {'.'.join(map(str, first['loc']))} (counted from 0): {first['msg']}; correct the vignette: the "
            "header of vignettes.toml explains each field"
        ) from None
    except (OSError, ValueError) as error:  # TOML errors are ValueErrors
        raise VignetteError(
            f"{path.name}: cannot be read ({type(error).__name__}); expected TOML with [[vignette]]; check path and syntax"
        ) from None
    names = [vignette.name for vignette in library.vignette]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise VignetteError(f"{path.name}: name: {', '.join(repeated)} occurs twice; expected each name once; rename one")
    return library.vignette


def build_records(vignettes: Iterable[Vignette], history: History) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Build the checked observations and the index of the vignettes that have a history.

    The last set is read at the index time. The patient is admitted when the first set is read.

    Args:
        vignettes: vignettes of a library; those without the history are left out.
        history: the history to build.

    Returns:
        Observations and index, as :func:`vigil.features.batch.build_features` expects them.
    """
    chosen = [vignette for vignette in vignettes if history in vignette.histories]
    readings, index = [], []
    for vignette in chosen:
        before = _sets_before(vignette, history)
        for hours, signs in [*before, (0, vignette.signs)]:
            readings += [(vignette.name, _hours_before(hours), signal, value) for signal, value in signs.items()]
        admitted = _hours_before(before[0][0] if before else 0)
        index.append((vignette.name, SHOWN_AT, vignette.age, vignette.sex, float(vignette.pregnant), admitted, admitted))
    frame = _to_frame(readings, ["subject_id", "observed_at", "signal", "value"])
    observations = check(frame, declared=OWN_UNITS).accepted
    columns = ["subject_id", "index_time", "age", "sex", "pregnant", "unit_admitted_at", "hospital_admitted_at"]
    return observations, _to_frame(index, columns).astype({"age": "float64", "sex": "float64", "pregnant": "float64"})


def build_rows(vignettes: Iterable[Vignette], history: History, views: Iterable[str]) -> pd.DataFrame:
    """Build the feature rows of the vignettes that have a history, in order of name.

    Args:
        vignettes: vignettes of a library; those without the history are left out.
        history: the history to build.
        views: feature views that the answer reads.
    """
    return build_features(*build_records(vignettes, history), views)


def evaluate_vignettes(answer: Answer, vignettes: Sequence[Vignette], views: Iterable[str]) -> list[Outcome]:
    """Compare the answers to all vignettes, with each of their histories, with the expected answers.

    Args:
        answer: function from feature rows to full answers.
        vignettes: vignettes of a library.
        views: feature views that the answer reads.

    Returns:
        One outcome per vignette and history.
    """
    views = tuple(views)
    by_name = {vignette.name: vignette for vignette in vignettes}
    outcomes = []
    for history in HISTORIES:
        if not any(history in vignette.histories for vignette in vignettes):
            continue
        for risk in answer(build_rows(vignettes, history, views)):
            vignette = by_name[risk.patient]
            actual = _describe_answer(risk, vignette)
            outcomes.append(Outcome(vignette.name, history, vignette.expected, actual, vignette.fault_of(risk)))
    return outcomes


def _describe_answer(risk: "Assessment", vignette: Vignette) -> str:
    """Describe an answer in the words of :attr:`Vignette.expected`."""
    alarm = () if vignette.alarm is None else ("an alarm by NEWS2" if risk.is_emergency else "no alarm by NEWS2",)
    return ", ".join((f"band {risk.band}", *alarm, *risk.findings))


def _sets_before(vignette: Vignette, history: History) -> list[tuple[int, dict[str, float]]]:
    """Return hours before the last set and the vital signs then, the earliest first."""
    usual, last = vignette.usual, vignette.signs
    short, hourly = range(_SHORT_HOURS, 0, -1), range(_HOURLY_HOURS, 0, -1)
    match history:
        case "none":
            return []
        case "short_constant":
            return [(hours, _vary(last, hours)) for hours in short]
        case "short_leading":
            steps = [(hours, 1 - hours / _SHORT_HOURS) for hours in short]
            return [(hours, _vary(_interpolate(usual, last, share), hours)) for hours, share in steps]
        case "long_spaced":
            return [(_SPACED_HOURS, _vary(usual, _SPACED_HOURS))]
        case "long_hourly":
            return [(hours, _vary(usual, hours)) for hours in hourly]


def _interpolate(usual: dict[str, float], last: dict[str, float], share: float) -> dict[str, float]:
    """Return vital signs a share (0 to 1) of the way from the usual ones to the last; codes are rounded to whole numbers."""
    signs = {name: usual[name] + share * (last[name] - usual[name]) for name in last}
    return {name: float(round(value)) if SIGNALS[name].coded else value for name, value in signs.items()}


def _vary(signs: dict[str, float], hours: int) -> dict[str, float]:
    """Return vital signs as devices show them: half a measurement error above or below in turn, so that readings differ."""
    values = {}
    for position, (name, value) in enumerate(signs.items()):
        offset = 0.5 if (position + hours) % 2 else -0.5
        values[name] = min(max(value + offset * MEASUREMENT_ERROR.get(name, 0.0), SIGNALS[name].low), SIGNALS[name].high)
    return values


def _hours_before(hours: int) -> pd.Timestamp:
    """Return the time so many hours before the last set."""
    return SHOWN_AT - pd.Timedelta(hours=hours)


def _to_frame(records: Sequence[tuple[object, ...]], columns: list[str]) -> pd.DataFrame:
    """Build a frame from records; columns that end in ``_at`` or ``_time`` are times."""
    frame = pd.DataFrame(records, columns=columns)
    times = [column for column in columns if column.endswith(("_at", "_time"))]
    return frame.astype(dict.fromkeys(times, TIME))
