"""A risk as a card: what a clinician has to know at a glance, in words and with the age of the data."""

import uuid
from datetime import timedelta
from typing import Any, Final

from vigil.features.display_names import capitalise, name_signal, show_value
from vigil.models.alarms.safety_net import Band
from vigil.models.tasks import is_limited
from vigil.serving.api.alarm_actions import OVERRIDE_REASON_SYSTEM, OVERRIDE_REASONS
from vigil.serving.records.ward_rows import Alarm
from vigil.serving.scoring.risk_report import RiskReport

MAX_SUMMARY: Final = 140  # characters, of CDS Hooks 2.0
_REASONS: Final = 3  # signals that a card names
_INDICATORS: Final[dict[Band, str]] = {"medium": "warning", "high": "critical"}  # no card for the others


def make_card(report: RiskReport, alarm: Alarm | None, url: str, page: str) -> dict[str, Any] | None:
    """Return the card of a risk; None: there is nothing to say.

    Args:
        report: with contributions.
        alarm: the open alarm of the patient. Feedback about the card is then about the alarm.
        url: of this server.
        page: path of the patient's page there.
    """
    indicator = _INDICATORS.get(report.risk.band)
    if indicator is None:
        return None
    return {
        "uuid": str(uuid.uuid4()) if alarm is None else alarm.alarm_id,
        "summary": _summary(report),
        "indicator": indicator,
        "detail": "\n\n".join(_details(report)),
        "source": {"label": "Vigil", "url": url},
        "links": [{"label": "Open in Vigil", "url": f"{url}{page}", "type": "absolute"}],
        "overrideReasons": [
            {"code": code, "system": OVERRIDE_REASON_SYSTEM, "display": display} for code, display in OVERRIDE_REASONS.items()
        ],
    }


def _summary(report: RiskReport) -> str:
    risk, outcome = report.risk, report.task.outcome
    news2 = f"NEWS2 {risk.news2}" + (f" to {risk.news2_highest}" if risk.news2_highest > risk.news2 else "")
    horizon = report.task.horizon
    within = f" within {horizon / timedelta(hours=1):g} h" if is_limited(horizon) else ""
    chance = "" if risk.probability is None else f", {100 * risk.probability:.0f} %{within}"
    text = f"{capitalise(risk.band)} risk of {outcome}{chance}. {news2}. {_age(report)}."
    return text if len(text) < MAX_SUMMARY else f"{capitalise(risk.band)} risk{chance}. {news2}. {_age(report)}."


def _age(report: RiskReport) -> str:
    hours = report.latest_reading_hours
    if hours is None:
        return "No reading within a day"
    minutes = round(60 * hours)
    return f"Data {minutes} min old" if minutes < 120 else f"Data {hours:.0f} h old"


def _details(report: RiskReport) -> list[str]:
    """Return paragraphs of Markdown: why, the components of NEWS2, and what does not hold."""
    paragraphs = []
    strongest = [one for one in report.contributions or () if one.log_odds > 0][:_REASONS]
    if strongest:
        paragraphs.append("**Why:** " + ", ".join(_reason(one.signal, one.measured) for one in strongest))
    scored = [
        f"{name_signal(signal)} {show_value(signal, component.value)} ({component.points})"
        for signal, component in report.risk.components.items()
        if component.points and component.value is not None
    ]
    if scored:
        paragraphs.append("**NEWS2 points:** " + ", ".join(scored))
    if report.range is not None:
        low, high = report.range
        paragraphs.append(f"**Range of the risk:** {100 * low:.0f} to {100 * high:.0f} %")
    if report.risk.findings:
        paragraphs.append("**Mind:** " + ", ".join(finding.replace("_", " ") for finding in report.risk.findings))
    basis = "NEWS2 alone" if report.model is None or report.risk.basis == "news2" else f"model version {report.model.version}"
    paragraphs.append(f"By {basis}. A decision aid, not a decision.")
    return paragraphs


def _reason(signal: str, measured: bool | None) -> str:
    name = name_signal(signal)
    return f"{name} (not measured)" if measured is False else name
