"""What clients may subscribe to: topics, the events of the wards that each is about, and the resource in their focus."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from vigil.serving.auth.tokens import Caller
from vigil.serving.records.prediction_rows import rescored_id
from vigil.serving.records.timestamps import instant
from vigil.serving.records.ward_rows import EventKind, NumberedEvent


@dataclass(frozen=True)
class Topic:
    """One topic.

    Attributes:
        url: its canonical URL.
        resource: type of the resource in the focus.
        kinds: of events of a ward (``/v1/ward/events``).
    """

    url: str
    resource: str
    kinds: frozenset[EventKind]

    def is_about(self, event: NumberedEvent) -> bool:
        """Return whether an event belongs to this topic. That of an alarm which the ward's budget withheld does not."""
        return event.kind in self.kinds and event.subject_id is not None and event.body.get("sounded") != 0

    def may_be_read(self, caller: Caller) -> bool:
        """Return whether a caller may read the resources in the focus."""
        return all(caller.may(letter, self.resource) for letter in "rs")

    def focus(self, event: NumberedEvent, task: str) -> str:
        """Return the reference to the resource that an event is about."""
        if self is RISK_CHANGED:
            body = event.body
            identity = rescored_id(task, body["model_version"], str(event.subject_id), instant(body["index_time"]))
        else:
            identity = event.body["alarm_id"]
        return f"{self.resource}/{identity}"


RISK_CHANGED: Final = Topic("urn:vigil:topic:risk-changed", "RiskAssessment", frozenset({"risk"}))
ALARM: Final = Topic(
    "urn:vigil:topic:alarm",
    "DetectedIssue",
    frozenset({"alarm", "alarm_moved", "alarm_ended", "alarm_basis_retracted", "acknowledged", "overridden"}),
)
TOPICS: Final[Mapping[str, Topic]] = {topic.url: topic for topic in (RISK_CHANGED, ALARM)}
