"""The predetermined change control plan (``pccp.yaml``): which evidence leads to which action."""

from collections import Counter
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vigil.features.errors import VigilError
from vigil.models.monitoring.detectors import Finding
from vigil.models.monitoring.faults import FAULTS
from vigil.models.monitoring.report_schema import Action, PlannedAction

FILE: Final = "pccp.yaml"

STRENGTH: Final[tuple[PlannedAction, ...]] = ("warn", "recalibrate", "retrain", "withdraw")  # the weakest first
Share = Annotated[float, Field(gt=0, le=1)]


class PlanError(VigilError):
    """The plan cannot be read, or is not complete."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MinimumEvidence(_Strict):
    """Patients with a known outcome, and those of them with an event, below which an action does not begin."""

    patients: int = Field(gt=0)
    events: int = Field(gt=0)


class ActionTerms(_Strict):
    """What an action does, how it is validated, and what stops it."""

    does: str
    validated_by: str = ""
    needs: MinimumEvidence | None = None
    at_most_every_days: float | None = Field(default=None, gt=0)


class Conditions(_Strict):
    """Conditions of a rule. All of them have to hold.

    Attributes:
        faults: at least one of them was detected.
        share_of_patients: the fault hits at least this share of the patients on the ward.
        estimated_auroc_lost: expected AUROC, without labels, is at least so much below that of training.
        auroc_lost: measured AUROC is at least so much below that of training, with 95 % confidence.
        prediction_drifted: the distribution of predicted risks differs from training.
        columns_share: at least this share of the features drifted.
    """

    faults: tuple[str, ...] = ()
    share_of_patients: Share | None = None
    estimated_auroc_lost: Share | None = None
    auroc_lost: Share | None = None
    prediction_drifted: Literal[True] | None = None
    columns_share: Share | None = None

    @field_validator("faults")
    @classmethod
    def _check_names(cls, faults: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in faults if name not in FAULTS]:
            raise ValueError(f"{', '.join(unknown)}: no such fault; expected some of {', '.join(FAULTS)}")
        return faults

    @model_validator(mode="after")
    def _check_conditions(self) -> Self:
        if not self.model_dump(exclude_defaults=True):
            raise ValueError("no condition; expected at least one, or the rule would always apply")
        if self.share_of_patients is not None and not self.faults:
            raise ValueError("share_of_patients without faults; expected the faults that hit so many")
        return self

    def hold(self, findings: list[Finding], figures: Mapping[str, float]) -> bool:
        """Return whether all conditions hold (see :meth:`Plan.decide`)."""
        hits = [finding for finding in findings if finding.fault in self.faults]
        if self.faults and not hits:
            return False
        if self.share_of_patients is not None:
            patients = figures.get("patients", 0)
            # Locations of one fault share no patient, so they add up. Two faults may share patients, so the larger counts.
            sums: Counter[tuple[str, str | None]] = Counter()
            for finding in hits:
                sums[finding.fault, finding.signal] += finding.affected
            if not patients or max(sums.values()) < self.share_of_patients * patients:
                return False
        for name in ("estimated_auroc_lost", "auroc_lost", "columns_share"):
            least = getattr(self, name)
            if least is not None and not figures.get(name, -1.0) >= least:
                return False
        return not (self.prediction_drifted and not figures.get("prediction_drifted"))


class Rule(_Strict):
    """Evidence, and the action that follows from it."""

    name: str
    when: Conditions
    then: PlannedAction
    because: str


class Plan(_Strict):
    """A whole plan: the terms of every action, and an answer to every fault."""

    version: Literal[1]
    actions: dict[PlannedAction, ActionTerms]
    rules: tuple[Rule, ...]

    @model_validator(mode="after")
    def _check_completeness(self) -> Self:
        if lacking := [str(name) for name in STRENGTH if name not in self.actions]:
            raise ValueError(f"actions: lacks {', '.join(lacking)}; expected what each of them does")
        covered = {
            name
            for rule in self.rules
            for name in rule.when.faults
            if set(rule.when.model_dump(exclude_defaults=True)) == {"faults"}
        }
        if missing := [name for name in FAULTS if name not in covered]:
            raise ValueError(f"rules: none for {', '.join(missing)} alone; expected an answer to every fault")
        return self

    def terms(self, action: Action) -> ActionTerms | None:
        """Return the terms of an action; None for one that does nothing."""
        return {str(name): terms for name, terms in self.actions.items()}.get(action)

    def decide(self, findings: list[Finding], figures: Mapping[str, float]) -> tuple[Action, list[Rule]]:
        """Return the strongest action that the evidence leads to, and all rules that apply, the strongest first.

        Args:
            findings: detected faults.
            figures: ``patients`` (on the ward), ``estimated_auroc_lost``, ``auroc_lost`` (lower confidence limit),
                ``prediction_drifted`` (0 or 1) and ``columns_share``. An unknown figure is left out.

        >>> plan = read_plan(Path("no home"))
        >>> action, rules = plan.decide([], {"patients": 40, "columns_share": 0.35})
        >>> action, [rule.name for rule in rules]
        ('warn', ['many features drifted'])
        """
        applying = [rule for rule in self.rules if rule.when.hold(findings, figures)]
        applying.sort(key=lambda rule: -STRENGTH.index(rule.then))
        return (applying[0].then if applying else "none"), applying


class _RepeatedKeyError(yaml.MarkedYAMLError):  # type: ignore[misc]  # PyYAML has no types
    """A mapping has a key twice. YAML forbids that (YAML 1.2.2, section 3.2.1.1); PyYAML takes the last."""


class _UniqueKeysLoader(yaml.SafeLoader):  # type: ignore[misc]  # as above
    """YAML's safe loader, which refuses repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        """Return a mapping."""
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                raise _RepeatedKeyError(problem_mark=key.start_mark)
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


def read_plan(home: Path) -> Plan:
    """Read the home's own plan, or Vigil's where the home has none.

    Raises:
        PlanError: it cannot be read; the message names the field and what was expected.
    """
    own = home / FILE
    text = own.read_text() if own.exists() else resources.files("vigil.models.monitoring").joinpath(FILE).read_text()
    return check_plan(text, str(own) if own.exists() else FILE)


def check_plan(text: str, name: str) -> Plan:
    """Parse and check the text of a plan; ``name`` is that of its file, for errors.

    Raises:
        PlanError: see :func:`read_plan`.
    """
    try:
        content: Any = yaml.load(text, _UniqueKeysLoader)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        advice = "a key is repeated; expected each once" if isinstance(error, _RepeatedKeyError) else "is it half-written?"
        raise PlanError(f"{name}: no YAML{f', line {mark.line + 1}' if mark else ''}; {advice}") from None
    if not isinstance(content, dict):
        raise PlanError(f"{name}: empty or no mapping; expected version, actions and rules; remove it to use Vigil's own")
    try:
        return Plan.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "plan"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise PlanError(f"{name}: {where}: {first['msg'].removeprefix('Value error, ')}{more}") from None
