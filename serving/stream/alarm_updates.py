"""What a decision about a patient's alarms changes: the alarm's record, and the event that followers of the ward see."""

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

from models.alarms.policy import Decision, State
from serving.records.database import microsecond
from serving.records.ward_state import Page

KINDS: Final[Mapping[str, str]] = {
    "sounded": "alarm",
    "sounded_again": "alarm",
    "withheld": "alarm_withheld",
    "ended": "alarm_ended",
}
_OF_THE_RISK: Final = (
    "ward", "basis", "probability", "news2", "prediction_id", "model_name", "model_version", "feature_service",
)  # fmt: skip
# What an event says of a risk.
SAID: Final = (
    "index_time", "basis", "probability", "band", "decided_by", "reasons", "findings", "unusual", "news2", "news2_highest",
    "model_name", "model_version", "feature_service",
)  # fmt: skip


def put_down(
    page: Page, alarm_id: str, before: State, decision: Decision, row: Mapping[str, Any], at: Mapping[str, Any]
) -> None:
    """Put on the page what a decision changes.

    Args:
        page: of this rescoring.
        alarm_id: of the episode that is under way, or ends.
        before: what was remembered before the decision.
        decision: what a risk does.
        row: the risk, as the board keeps it.
        at: ``at, ward, patient`` of the event.
    """
    after, event = decision.state, decision.event
    episode = after.episode or before.episode
    assert episode is not None
    if event is None:
        if after.episode != before.episode:  # NEWS2 has fallen: its next alarm brings news again
            page.changed.append({"alarm_id": alarm_id, "emergency": episode.emergency})
        return
    sounded = None if after.last_sounded_at is None else microsecond(pd.Timestamp(after.last_sounded_at))
    because = {"cause": decision.cause, "reasons": row["reasons"], "emergency": episode.emergency}
    if before.episode is None:
        opened = {"alarm_id": alarm_id, "patient": row["patient"], "opened_at": row["index_time"], "sounded": episode.sounded}
        opened |= {"last_sounded_at": sounded if episode.sounded else None, "ended_at": None, "status": "open"}
        page.opened.append(opened | {column: row[column] for column in _OF_THE_RISK} | because)
    elif event == "ended":
        page.changed.append({"alarm_id": alarm_id, "ended_at": row["index_time"]})
    else:
        changed = {"alarm_id": alarm_id, "sounded": episode.sounded, "last_sounded_at": sounded, **because}
        if episode.emergency and not before.episode.emergency:  # what was done about the model's alarm was not about this
            changed |= {"status": "open", "acted_at": None, "acted_by": None, "reason": None}
        page.changed.append(changed)
    body = {"alarm_id": alarm_id, "sounded": episode.sounded, "cause": decision.cause, **said(row)}
    page.events.append({**at, "kind": KINDS[event], "body": body})


def said(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an event says of a risk."""
    return {name: row[name] for name in SAID}
