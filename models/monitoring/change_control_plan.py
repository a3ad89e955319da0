"""The predetermined change control plan (``pccp.yaml``): which evidence asks for which action. Read, checked, applied."""

from collections import Counter
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from features.errors import VigilError
from models.monitoring.detectors import Finding
from models.monitoring.faults import FAULTS

FILE: Final = "pccp.yaml"

Acting = Literal["warn", "recalibrate", "retrain", "withdraw"]
Action = Acting | Literal["none", "reinstate"]  # the last is a person's, no rule's
STRENGTH: Final[tuple[Acting, ...]] = ("warn", "recalibrate", "retrain", "withdraw")
Share = Annotated[float, Field(gt=0, le=1)]


class PlanError(VigilError):
    """The plan cannot be followed."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Needs(_Strict):
    """Patients whose outcome is known, and events among them, without whom an action is not begun."""

    patients: int = Field(gt=0)
    events: int = Field(gt=0)


class Act(_Strict):
    """What an action does, how it is validated, and what stops it."""

    does: str
    validated_by: str = ""
    needs: Needs | None = None
    at_most_every_days: float | None = Field(default=None, gt=0)


class When(_Strict):
    """Conditions that all have to hold.

    Attributes:
        faults: one of them was named.
        share_of_patients: that the fault hits, at least, of all who are on the ward.
        estimated_auroc_lost: expected AUROC below that of training, at least, without labels.
        auroc_lost: measured AUROC below that of training by more than this, with 95 % confidence.
        prediction_drifted: predicted risks lie otherwise than in training.
        columns_share: of the features that drifted, at least.
    """

    faults: tuple[str, ...] = ()
    share_of_patients: Share | None = None
    estimated_auroc_lost: Share | None = None
    auroc_lost: Share | None = None
    prediction_drifted: Literal[True] | None = None
    columns_share: Share | None = None

    @field_validator("faults")
    @classmethod
    def _known(cls, faults: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in faults if name not in FAULTS]:
            raise ValueError(f"{', '.join(unknown)}: no such fault; expected some of {', '.join(FAULTS)}")
        return faults

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_dump(exclude_defaults=True):
            raise ValueError("no condition; expected at least one, or the rule would always apply")
        if self.share_of_patients is not None and not self.faults:
            raise ValueError("share_of_patients without faults; expected the faults that hit so many")
        return self


class Rule(_Strict):
    """Evidence and the action that it asks for."""

    name: str
    when: When
    then: Acting
    because: str


class Plan(_Strict):
    """A whole plan."""

    version: Literal[1]
    actions: dict[Acting, Act]
    rules: tuple[Rule, ...]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if lacking := [str(name) for name in STRENGTH if name not in self.actions]:
            raise ValueError(f"actions: lacks {', '.join(lacking)}; expected what each of them does")
        alone = {"faults"}
        covered = {
            name
            for rule in self.rules
            for name in rule.when.faults
            if set(rule.when.model_dump(exclude_defaults=True)) == alone
        }
        if missing := [name for name in FAULTS if name not in covered]:
            raise ValueError(f"rules: none for {', '.join(missing)} alone; expected an answer to every fault")
        return self

    def act(self, action: Action) -> Act | None:
        """What an action does; None: nothing is done."""
        return {str(name): act for name, act in self.actions.items()}.get(action)

    def decide(self, findings: list[Finding], figures: Mapping[str, float]) -> "tuple[Action, list[Rule]]":
        """The strongest action that evidence asks for, and all rules that apply, the strongest first.

        Args:
            findings: faults that were named.
            figures: ``patients`` (on the ward), ``estimated_auroc_lost``, ``auroc_lost`` (lower confidence limit),
                ``prediction_drifted`` (0 or 1) and ``columns_share``; one that is not known is left out.
        """
        applying = [rule for rule in self.rules if _applies(rule.when, findings, figures)]
        applying.sort(key=lambda rule: -STRENGTH.index(rule.then))
        return (applying[0].then if applying else "none"), applying


def read_plan(home: Path) -> Plan:
    """The home's own plan, or Vigil's.

    Raises:
        PlanError: it cannot be read; says which field, what was expected.
    """
    own = home / FILE
    text = own.read_text() if own.exists() else resources.files("models.monitoring").joinpath(FILE).read_text()
    return check_plan(text, str(own) if own.exists() else FILE)


def check_plan(text: str, name: str) -> Plan:
    """A plan from its text.

    Raises:
        PlanError: see :func:`read_plan`.
    """
    try:
        found: Any = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise PlanError(f"{name}: no YAML{f', line {mark.line + 1}' if mark else ''}; is it half-written?") from None
    if not isinstance(found, dict):
        raise PlanError(f"{name}: empty or no mapping; expected version, actions and rules; remove it to go by Vigil's own")
    try:
        return Plan.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "plan"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise PlanError(f"{name}: {where}: {first['msg'].removeprefix('Value error, ')}{more}") from None


def _applies(when: When, findings: list[Finding], figures: Mapping[str, float]) -> bool:
    hits = [finding for finding in findings if finding.fault in when.faults]
    if when.faults and not hits:
        return False
    if when.share_of_patients is not None:
        patients = figures.get("patients", 0)
        # Places of one fault share no patient; two faults may, so the larger counts.
        sums: Counter[tuple[str, str | None]] = Counter()
        for finding in hits:
            sums[finding.fault, finding.signal] += finding.hit
        if not patients or max(sums.values()) < when.share_of_patients * patients:
            return False
    for name in ("estimated_auroc_lost", "auroc_lost", "columns_share"):
        least = getattr(when, name)
        if least is not None and not figures.get(name, -1.0) >= least:
            return False
    return not (when.prediction_drifted and not figures.get("prediction_drifted"))
