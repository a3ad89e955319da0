"""What a subscription is told of its events: never more than its owner may see at the moment it is told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from vigil.serving.auth.tokens import Caller
from vigil.serving.fhir.detected_issues import to_detected_issue
from vigil.serving.fhir.directory import Directory
from vigil.serving.fhir.risk_assessments import to_risk_assessment
from vigil.serving.fhir.subscriptions.notifications import Told
from vigil.serving.fhir.subscriptions.topics import ALARM, RISK_CHANGED, TOPICS
from vigil.serving.records.journal import Journal
from vigil.serving.records.subscriptions import Content, NumberedForSubscription, Subscription
from vigil.serving.records.ward_rows import NumberedEvent
from vigil.serving.records.ward_state import WardState
from vigil.serving.scoring.risk_report import Include, NoReport
from vigil.serving.scoring.risk_service import RiskService


@dataclass(frozen=True)
class Telling:
    """Makes what subscriptions of one home are told.

    Attributes:
        find_owner: returns what a client may see and do now; None: it is not registered any more.
        risk_service: returns the risk service, which is made when it is first needed.
        task: name of the question that risks answer.
    """

    find_owner: Callable[[str], Caller | None]
    ward_state: WardState
    journal: Journal
    directory: Directory
    risk_service: Callable[[], RiskService]
    task: str

    def reader(self, subscription: Subscription) -> Caller | None:
        """Return what the owner may see by a subscription now; None: nothing.

        That is what its registration allows now, within what it might see when it wrote the subscription.
        """
        owner = self.find_owner(subscription.client)
        if owner is None or not TOPICS[subscription.topic].may_be_read(owner):
            return None
        if subscription.wards is None:
            return owner
        wards = frozenset(ward for ward in subscription.wards if owner.can_see(ward))
        return replace(owner, wards=wards)

    def tell(
        self, subscription: Subscription, numbered: Sequence[NumberedForSubscription], reader: Caller, content: Content
    ) -> tuple[list[Told], list[int]]:
        """Return what is told of some events, and the numbers of those that are not stored any more.

        Events of wards that the reader may no longer see are neither.
        """
        places = {each.number: (each.ward, each.ward_number) for each in numbered}
        known = self.ward_state.events_of([(ward, at) for ward, at in places.values() if ward is not None and at is not None])
        found = {number: known.get((ward or "", at or 0)) for number, (ward, at) in places.items()}
        missing = [
            each.number for each in numbered if found[each.number] is None and (each.ward is None or reader.can_see(each.ward))
        ]
        visible = {number: event for number, event in found.items() if event is not None and reader.can_see(event.ward)}
        resources: dict[int, dict[str, Any]] = {}
        if content == "full-resource":
            resources = _MAKERS[subscription.topic](self, visible, reader)
        told = [self._told(subscription, number, event, resources.get(number)) for number, event in visible.items()]
        return told, missing

    def _told(self, subscription: Subscription, number: int, event: NumberedEvent, resource: dict[str, Any] | None) -> Told:
        focus = TOPICS[subscription.topic].focus(event, self.task)
        if resource is not None:
            focus = f"{resource['resourceType']}/{resource['id']}"
        return Told(number, event.at, focus, self.directory.reference(str(event.subject_id)), resource)

    def risks(self, events: Mapping[int, NumberedEvent], reader: Caller) -> dict[int, dict[str, Any]]:
        """Return the present risk of the patient of each event, if the reader may see them where they are now."""
        subjects = {number: str(event.subject_id) for number, event in events.items()}
        survivors = self.journal.survivors_of(list(set(subjects.values())))
        wards = self.journal.wards_of(set(survivors.values()))
        visible = sorted(subject for subject, ward in wards.items() if reader.can_see(ward))
        if not visible:
            return {}
        wanted: list[Include] = ["range"]
        reports = zip(visible, self.risk_service().by_subject(visible, include=wanted), strict=True)
        made = {
            subject: to_risk_assessment(report, self.directory.reference(subject))
            for subject, report in reports
            if not isinstance(report, NoReport)
        }
        return {number: made[survivors[subject]] for number, subject in subjects.items() if survivors[subject] in made}

    def alarms(self, events: Mapping[int, NumberedEvent], reader: Caller) -> dict[int, dict[str, Any]]:
        """Return the alarm of each event as it is now, if the reader may see the ward that it is in now."""
        names = {event.body["alarm_id"] for event in events.values()}
        found = {name: alarm for name in names if (alarm := self.ward_state.alarm(name)) is not None}
        made = {
            name: to_detected_issue(alarm, self.directory.reference(alarm.subject_id))
            for name, alarm in found.items()
            if reader.can_see(alarm.ward)
        }
        return {number: made[name] for number, event in events.items() if (name := event.body["alarm_id"]) in made}


# What makes the resources of events, by topic.
_MAKERS: Final = {RISK_CHANGED.url: Telling.risks, ALARM.url: Telling.alarms}
