"""The summary of a patient as one page of PDF, for a video consultation or the paper record. It is drawn by matplotlib."""

import io
import textwrap
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from vigil.serving.pages.charts import Panel, Span
from vigil.serving.pages.patient_view import Contributor, PatientView
from vigil.serving.records.timestamps import instant
from vigil.serving.words import Words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_A4: Final = (8.27, 11.69)  # inches
_AREAS: Final = {"usual": "#e4e9ed", "urgent": "#fbdde0", "attention": "#fff0cc"}
_LEFT: Final = 0.05  # of the width of the page, as the next two
_CHARTS: Final = 0.58
_SIDE: Final = 0.67
_MOST_CHARTS: Final = 9
_WIDTH: Final = 38  # characters of the right column
_LINE: Final = 0.0125  # of the height of the page


def summary_pdf(view: PatientView, words: Words, zone: ZoneInfo, printed_at: datetime, by: str) -> bytes:
    """Return the page.

    Args:
        view: of the patient.
        words: in the reader's language.
        zone: of the times on the page, which names it.
        printed_at, by: when it was made, and for whom.
    """
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.figure import Figure

    figure = Figure(figsize=_A4)
    FigureCanvasPdf(figure)
    _draw_head(figure, view, words, zone)
    panels = [*view.course, *view.signals][:_MOST_CHARTS]
    height = 0.76 / max(len(panels), 4)
    for place, panel in enumerate(panels):
        axes = figure.add_axes((_LEFT, 0.80 - (place + 1) * height + 0.03, _CHARTS, height - 0.03))
        _draw_panel(axes, panel, view.span, zone, is_last=place == len(panels) - 1)
    _draw_side(figure, view, words, zone)
    stamp = f"{words('view.printed')} {_time(printed_at, zone)} ({zone.key}), {by}. {words('site.decision_aid')}"
    figure.text(_LEFT, 0.02, stamp, fontsize=7, color="#4a5866")
    content = io.BytesIO()
    # Without the usual entries: title and author would name somebody in the list of a printer.
    figure.savefig(content, format="pdf", metadata={"Title": "Vigil", "CreationDate": None, "Creator": None, "Producer": None})
    return content.getvalue()


def _draw_head(figure: "Figure", view: PatientView, words: Words, zone: ZoneInfo) -> None:
    registration, report = view.registration, view.report
    figure.text(_LEFT, 0.955, view.name or "?", fontsize=18, fontweight="bold")
    facts = []
    if registration is not None:
        facts += [words("view.ward", ward=registration.ward)] if registration.ward else []
        facts += [words("view.aged", age=f"{registration.age:.0f}")] if registration.age is not None else []
        facts += [words("view.male" if registration.sex else "view.female")] if registration.sex is not None else []
    figure.text(_LEFT, 0.938, "   ".join(facts), fontsize=9, color="#4a5866")
    if report is None:
        figure.text(_LEFT, 0.90, words("view.no_risk"), fontsize=11)
        return
    risk = report.risk
    figure.text(_LEFT, 0.895, words(f"band.{risk.band}").upper(), fontsize=13, fontweight="bold")
    chance = words("patient.no_probability") if risk.probability is None else words.percent(risk.probability)
    figure.text(_LEFT + 0.14, 0.893, chance, fontsize=16, fontweight="bold")
    if report.range is not None:
        low, high = (words.percent(bound) for bound in report.range)
        figure.text(_LEFT + 0.14, 0.877, words("patient.range", low=low, high=high), fontsize=8)
    figure.text(_LEFT + 0.36, 0.893, f"NEWS2 {risk.news2}", fontsize=16, fontweight="bold")
    age = report.latest_reading_hours
    lines = [
        words.question(report.task),
        f"{words('view.as_of')} {_time(report.as_of, zone)}; {words('view.data_age')}: "
        + (words("patient.no_reading") if age is None else words.age(age)),
    ]
    if report.model is not None and risk.basis == "model":
        lines.append(words("view.model_version", name=report.model.name, version=report.model.version))
        if report.model.model.metadata_.get("simulated"):
            lines.append(words("site.simulated"))
    scored = [
        f"{words.short(cell.signal)} {words.value(cell.signal, cell.value)}: {words('patient.points', cell.points)}"
        for cell in view.news2
        if cell.points and cell.value is not None
    ]
    lines += [", ".join(scored)] if scored else []
    lines += ["; ".join(words.reason(name) for name in risk.reasons)] if risk.reasons else []
    lines += ["! " + "; ".join(words.finding(name) for name in risk.findings)] if risk.findings else []
    wrapped = [part for text in lines for part in textwrap.wrap(text, 52)]
    figure.text(_SIDE - 0.06, 0.965, "\n".join(wrapped[:9]), fontsize=8, va="top", linespacing=1.3)


def _draw_panel(axes: "Axes", panel: Panel, span: Span, zone: ZoneInfo, *, is_last: bool) -> None:
    axes.set_xlim(0, 100)
    axes.set_ylim(100, 0)
    for top, bottom, kind in panel.bands:
        axes.axhspan(top, bottom, color=_AREAS[kind], linewidth=0)
    for start, end in panel.gaps:
        axes.axvspan(start, end, facecolor="none", edgecolor="#8794a0", hatch="////", linewidth=0)
    for height, _ in panel.lines:
        axes.axhline(height, color="#a3001b", linestyle="--", linewidth=0.7)
    for part in panel.parts:
        axes.plot(
            *zip(*part, strict=True), color="#12304a", linewidth=0.9, drawstyle="steps-post" if panel.is_step else "default"
        )
    for x, y in panel.dots:
        axes.plot([x], [y], color="#12304a", marker=".", markersize=3)
    for mark in panel.marks:
        if mark.kind == "alarm":
            axes.axvline(mark.x, color="#a3001b", linewidth=1.2)
        else:
            axes.plot([mark.x], [mark.y], marker="x", color="#a3001b", markersize=5, clip_on=False)
    axes.set_yticks([])
    for place, text in panel.labels:
        axes.text(
            0.5, place, text, fontsize=6, color="#4a5866", va="top" if place < 12 else "bottom" if place > 88 else "center"
        )
    ticks = span.ticks()
    names = [_time(instant(time), zone, is_short=True) if is_last else "" for _, time in ticks]
    axes.set_xticks([place for place, _ in ticks], names, fontsize=6)
    axes.grid(visible=True, axis="x", color="#d5dce2", linewidth=0.5)
    axes.set_title(f"{panel.label}   {panel.latest}", fontsize=7.5, loc="left", pad=2)


def _draw_side(figure: "Figure", view: PatientView, words: Words, zone: ZoneInfo) -> None:
    parts: list[tuple[str, Sequence[str]]] = [(words("view.contributions"), _why(view, words))]
    if view.changes:
        parts.append((words("view.changes", hours=6), _bars(view.changes, words)))
    unusual = [
        f"{words.signal(one.signal)}: "
        + words("view.usual", usual=words.value(one.signal, one.usual), level=words.value(one.signal, one.level))
        for one in view.anomalies
        if one.usual is not None and one.level is not None
    ]
    parts.append((words("view.unusual"), unusual or [words("view.nothing_unusual")]))
    if view.gaps:
        gaps = [
            f"{words.signal(gap.signal)} {words('view.since_hours', age=words.age(gap.hours_since_reading))}"
            for gap in view.gaps
        ]
        parts.append((words("view.gaps"), gaps))
    if view.alarms is not None:
        stories = [
            f"{words('alarm.open' if alarm.sounded else 'alarm.withheld')} {_time(instant(alarm.opened_at), zone)}; "
            + (f"{words('view.ended')} {_time(instant(alarm.ended_at), zone)}" if alarm.ended_at else words("view.goes_on"))
            + "".join(
                f"; {words('alarm.' + action.action)}: {view.people.get(action.by, action.by)}" for action in alarm.actions
            )
            for alarm in view.alarms
        ]
        parts.append((words("view.alarms"), stories or [words("view.no_alarms")]))
    height = 0.80
    for title, texts in parts:
        figure.text(_SIDE, height, title, fontsize=9, fontweight="bold", va="top")
        height -= 1.3 * _LINE
        for text in texts:
            lines = textwrap.wrap(text, _WIDTH)
            if height - len(lines) * _LINE < 0.05:
                figure.text(_SIDE, height, "…", fontsize=7.5, va="top")
                return
            figure.text(_SIDE, height, "\n".join(lines), fontsize=7.5, va="top", linespacing=1.25)
            height -= len(lines) * _LINE
        height -= _LINE


def _why(view: PatientView, words: Words) -> list[str]:
    if view.contributions:
        return _bars(view.contributions, words)
    is_by_news2 = view.report is not None and view.report.risk.basis == "news2"
    return [words("view.by_news2" if is_by_news2 else "patient.no_reasons")]


def _bars(contributors: Sequence[Contributor], words: Words) -> list[str]:
    return [
        f"{words.signal(one.signal)}: {words('view.for_it' if one.share > 0 else 'view.against_it')} ({abs(one.share):.0%})"
        for one in contributors
    ]


def _time(time: Any, zone: ZoneInfo, *, is_short: bool = False) -> str:
    own = time.astimezone(zone)
    return f"{own:%H:%M}" if is_short and (own.hour or own.minute) else f"{own:%d.%m.}" if is_short else f"{own:%Y-%m-%d %H:%M}"
