"""Task files of ACES, read as a question of Vigil: which realisations of its windows there are, and what each one's label is.

Xu J, Gallifant J, Johnson AEW, McDermott MBA. ACES: Automatic Cohort Extraction System for Event-Streams. ICLR 2025
(arXiv:2406.19653). A *predicate* says which events count. The *trigger* is an event from which *windows* are laid out in time.
A realisation is a trigger at which every window exists and holds as many events as its ``has`` allows.

The question is asked once a realisation, at its ``index_timestamp``: does an event of the predicate ``label`` lie in the window
with the label? What this cannot be is refused: an error names the predicate or the window.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from vigil.models.own_tasks import TaskSettings
from vigil.pipelines.sources import SourceError

ANY_EVENT: Final = "_ANY_EVENT"
RECORD_START: Final = "_RECORD_START"
RECORD_END: Final = "_RECORD_END"
SPECIAL: Final = (ANY_EVENT, RECORD_START, RECORD_END)

_SUPPORTED: Final = (
    "predicates of code (a text, regex or any), value_min and value_max, or expr: and(...), or(...); patient_demographics; "
    "a trigger; windows with start, end, has, one label and one index_timestamp"
)
_UNITS: Final = {"s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hr": 3600, "hour": 3600}
_SECONDS: Final = {**_UNITS, "d": 86400, "day": 86400, "w": 604800, "week": 604800}
_LONGEST_HOURS: Final = 24 * 10_000  # of a label window that ends with an event


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Code(_Part):
    """Which codes are meant: those that hold a regular expression, or any of a list."""

    regex: Annotated[str, Field(min_length=1)] | None = None
    any: Annotated[list[str], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _require_one(self) -> Self:
        if (self.regex is None) == (self.any is None):
            raise ValueError("expected either regex or any")
        return self


class Predicate(_Part):
    """Which events count: by code and value, or by other predicates of the same time.

    Attributes:
        code: of the event.
        value_min, value_max: limits of its value; ``value_min_inclusive, value_max_inclusive``: whether they belong to it.
        expr: ``and(a, b)`` or ``or(a, b)`` of other predicates.
    """

    code: Code | str | None = None
    value_min: float | None = None
    value_max: float | None = None
    value_min_inclusive: bool | None = None
    value_max_inclusive: bool | None = None
    expr: Annotated[str, Field(pattern=r"^\s*(and|or)\(\s*\w+\s*(,\s*\w+\s*)+\)\s*$")] | None = None

    @model_validator(mode="after")
    def _require_one_form(self) -> Self:
        if (self.code is None) == (self.expr is None):
            raise ValueError("expected either code or expr")
        return self

    @property
    def parts(self) -> tuple[str, ...]:
        """The predicates that ``expr`` is of."""
        return tuple(re.findall(r"\w+", self.expr)[1:]) if self.expr else ()

    @property
    def needs_all(self) -> bool:
        """Whether ``expr`` needs all of its predicates, or any of them."""
        return bool(self.expr and self.expr.strip().startswith("and"))


@dataclass(frozen=True)
class Boundary:
    """Where a window starts or ends: at a reference, at a time from it, or at the next event of a predicate before or after it.

    Attributes:
        reference: ``trigger``, ``WINDOW.start``, ``WINDOW.end``, or the other boundary of the same window: ``start``, ``end``.
        offset: from the reference.
        event: the predicate.
        is_before: whether the event lies before the reference.
    """

    reference: str
    offset: timedelta = timedelta(0)
    event: str | None = None
    is_before: bool = False


def read_boundary(text: str) -> Boundary:
    """Read a boundary.

    >>> read_boundary("trigger + 1 day 2h")
    Boundary(reference='trigger', offset=datetime.timedelta(days=1, seconds=7200), event=None, is_before=False)
    >>> read_boundary("gap.end -> death")
    Boundary(reference='gap.end', offset=datetime.timedelta(0), event='death', is_before=False)

    Raises:
        ValueError: it is not understood.
    """
    match = re.fullmatch(r"\s*(?P<reference>\w+(\.(start|end))?)\s*((?P<how>->|<-|\+|-)\s*(?P<what>.+?)\s*)?", text)
    if match is None:
        raise ValueError(f"{text!r} is no boundary; expected REFERENCE, REFERENCE + TIME, REFERENCE -> EVENT or <- EVENT")
    reference, how, what = match["reference"], match["how"], match["what"]
    if how is None:
        return Boundary(reference)
    if how in {"->", "<-"}:
        return Boundary(reference, event=what, is_before=how == "<-")
    return Boundary(reference, offset=_read_duration(what) * (-1 if how == "-" else 1))


def _read_duration(text: str) -> timedelta:
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text)
    rest = re.sub(r"(\d+(?:\.\d+)?)\s*([a-z]+)", "", text)
    seconds = [_SECONDS.get(unit.removesuffix("s") or unit) for _, unit in parts]
    if not parts or None in seconds or rest.strip(" ,"):
        raise ValueError(f"{text!r} is no time; expected such as 24h, 30 minutes or 1 day 12 hours")
    return timedelta(seconds=sum(float(number) * (own or 0) for (number, _), own in zip(parts, seconds, strict=True)))


def _read_range(value: Any) -> Any:
    """Return a range such as ``(1, None)`` as a list."""
    if not isinstance(value, str):
        return value
    return [None if part.strip() in {"None", ""} else part.strip() for part in value.strip().strip("()[]").split(",")]


Range = Annotated[
    Annotated[list[Annotated[int, Field(ge=0)] | None], Field(min_length=2, max_length=2)], BeforeValidator(_read_range)
]
BoundaryText = Annotated[Boundary | None, BeforeValidator(lambda text: read_boundary(text) if isinstance(text, str) else text)]


class Window(_Part):
    """A window.

    Attributes:
        start, end: one of both depends on the other; null: the beginning or the end of the patient's record.
        start_inclusive, end_inclusive: whether events at these times belong to it.
        has: how many events of a predicate it may hold, ``(least, most)``.
        label: the predicate that the question is about.
        index_timestamp: whether its start or its end is when the question is asked.
    """

    start: BoundaryText
    end: BoundaryText
    start_inclusive: bool = True
    end_inclusive: bool = True
    has: dict[str, Range] = {}
    label: str | None = None
    index_timestamp: Literal["start", "end"] | None = None

    @model_validator(mode="after")
    def _require_one_anchor(self) -> Self:
        of_start, of_end = self.boundaries
        if (of_start.reference == "end") == (of_end.reference == "start"):
            raise ValueError("expected one of start and end to depend on the other, and that on the trigger or another window")
        inner = of_start if of_start.reference == "end" else of_end
        is_backwards = inner.is_before if inner.event else inner.offset < timedelta(0)
        if is_backwards != (inner is of_start) and (inner.event or inner.offset):
            raise ValueError("ends before it starts")
        return self

    @property
    def boundaries(self) -> tuple[Boundary, Boundary]:
        """Start and end."""
        return (
            self.start or Boundary("end", event=RECORD_START, is_before=True),
            self.end or Boundary("start", event=RECORD_END),
        )

    @property
    def anchor(self) -> Literal["start", "end"]:
        """Which of both boundaries depends on the trigger or on another window."""
        return "end" if self.boundaries[0].reference == "end" else "start"


class Metadata(BaseModel):
    """What Vigil reads beside ACES: ``name`` and ``outcome`` of the task, and the ``feature_service`` of its models."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str | None = None
    outcome: str | None = None
    feature_service: str = "vital_signs_v3"


class AcesTask(_Part):
    """A task file."""

    metadata: Metadata = Metadata()
    description: Any = None
    predicates: dict[str, Predicate]
    patient_demographics: dict[str, Predicate] = {}
    trigger: str
    windows: dict[str, Window]

    @model_validator(mode="after")
    def _require_consistency(self) -> Self:
        if self.trigger == ANY_EVENT:
            raise ValueError(f"trigger: {ANY_EVENT} asks at every event; expected a predicate, for a question once a stay")
        known = {*self.predicates, *self.patient_demographics, *SPECIAL}
        used = {(f"predicates.{name}", part) for name, predicate in self.predicates.items() for part in predicate.parts}
        for name, window in self.windows.items():
            events = {boundary.event for boundary in window.boundaries}
            used |= {(f"windows.{name}", part) for part in {*window.has, *events, window.label} if part and part != "*"}
            for boundary in window.boundaries:
                of = boundary.reference.partition(".")[0]
                if of not in {*self.windows, "trigger", "start", "end"}:
                    raise ValueError(f"windows.{name}: {boundary.reference}: no such window")
        if unknown := sorted(f"{where}: {part}" for where, part in {*used, ("trigger", self.trigger)} if part not in known):
            raise ValueError(f"{', '.join(unknown)}: no such predicate; expected one of {', '.join(sorted(known))}")
        for field in ("label", "index_timestamp"):
            with_it = [name for name, window in self.windows.items() if getattr(window, field)]
            if len(with_it) != 1:
                raise ValueError(f"windows: {', '.join(with_it) or 'none'} have {field}; expected one window with it")
        if len(list(self.in_order())) != len(self.windows):
            raise ValueError("windows: some depend on each other in a circle; expected the trigger at the end of each chain")
        if self._is_circular():
            raise ValueError("predicates: expr of one depends on itself")
        return self

    def _is_circular(self) -> bool:
        open_ones = {name: set(predicate.parts) & self.predicates.keys() for name, predicate in self.predicates.items()}
        while done := {name for name, parts in open_ones.items() if not parts & open_ones.keys()}:
            open_ones = {name: parts for name, parts in open_ones.items() if name not in done}
        return bool(open_ones)

    def in_order(self) -> Iterator[str]:
        """Yield the windows, each after the one that it depends on."""
        waiting = dict(self.windows)
        done = {"trigger"}
        while ready := [name for name, window in waiting.items() if self._anchor_of(window).partition(".")[0] in done]:
            yield from ready
            done |= set(ready)
            waiting = {name: window for name, window in waiting.items() if name not in done}

    @staticmethod
    def _anchor_of(window: Window) -> str:
        return window.boundaries[0 if window.anchor == "start" else 1].reference

    @cached_property
    def labelled(self) -> str:
        """The window with the label."""
        return next(name for name, window in self.windows.items() if window.label)

    @cached_property
    def index_window(self) -> str:
        """The window at whose boundary the question is asked."""
        return next(name for name, window in self.windows.items() if window.index_timestamp)

    @property
    def label(self) -> str:
        """The predicate that the question is about."""
        return str(self.windows[self.labelled].label)

    def horizon(self) -> timedelta | None:
        """Return the time from the question to the end of the window with the label; None: an event ends it."""
        return self._times.get(f"{self.labelled}.end")

    @cached_property
    def _times(self) -> Mapping[str, timedelta]:
        """The time from the question to each boundary that no event parts from it."""
        known = {f"{self.index_window}.{self.windows[self.index_window].index_timestamp}": timedelta(0)}
        steps = []
        for name, window in self.windows.items():
            for side, boundary in zip(("start", "end"), window.boundaries, strict=True):
                if boundary.event is None:
                    is_inner = boundary.reference in {"start", "end"}
                    of = f"{name}.{boundary.reference}" if is_inner else boundary.reference
                    steps += [(of, f"{name}.{side}", boundary.offset), (f"{name}.{side}", of, -boundary.offset)]
        while more := {to: known[of] + offset for of, to, offset in steps if of in known and to not in known}:
            known |= more
        return known

    def windows_after_the_question(self) -> list[str]:
        """Return the windows whose ``has`` may look beyond the time of the question."""
        later = timedelta(1)  # a time that an event decides may be
        return [name for name, own in self.windows.items() if own.has and self._times.get(f"{name}.end", later) > timedelta(0)]

    def settings(self, path: Path) -> TaskSettings:
        """Return the task: asked once a stay, at its end; what happened later than the horizon is none of it."""
        horizon = self.horizon()
        if horizon is not None and horizon <= timedelta(0):
            raise ValueError(f"windows.{self.labelled}: it ends before the question is asked; expected a window after it")
        name = self.metadata.name or re.sub(r"[^a-z0-9]+", "_", path.name.partition(".")[0].lower()).strip("_")
        return TaskSettings(
            name=name,
            outcome=self.metadata.outcome or self.label.replace("_", " "),
            horizon_hours=_LONGEST_HOURS if horizon is None else horizon.total_seconds() / 3600,
            feature_service=self.metadata.feature_service,
            index="end",
            after_onset="positive",
            cut_off="negative",
        )


def read_aces(path: Path) -> tuple[AcesTask, TaskSettings]:
    """Read a task file of ACES.

    Raises:
        SourceError: it cannot be a question of Vigil; all that is wrong with it is named.
    """
    try:
        task = AcesTask.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        return task, task.settings(path)
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, one['loc'])) or 'task'}: {one['msg']}" for one in error.errors()]
        raise SourceError(f"task {path}: {'; '.join(wrong)}; supported are {_SUPPORTED}") from None
    except (OSError, UnicodeError) as error:
        raise SourceError(f"task {path}: cannot be read ({type(error).__name__}); expected a task file of ACES") from None
    except (ValueError, yaml.YAMLError) as error:
        raise SourceError(f"task {path}: {str(error).partition(chr(10))[0]}; supported are {_SUPPORTED}") from None
