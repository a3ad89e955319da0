"""The summary of a patient as one page of PDF, for a video consultation or the paper record. It is drawn by matplotlib.

Findings and warnings come first. What finds no room is named: signals without a chart with their latest value, and how much of
the text was left out.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from vigil.serving.pages.charts import Panel, Span
from vigil.serving.pages.paper import PAGE, Line, height_of, share_of, wrap, write
from vigil.serving.pages.patient_view import Contributor, PatientView
from vigil.serving.pages.signal_cells import SignalCell, StandingBound
from vigil.serving.records.timestamps import instant
from vigil.serving.records.ward_rows import Alarm
from vigil.serving.words import Words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What is on the page, in points from the upper left corner.
_INCH: Final = 72
_TOP: Final = 24
_BOTTOM: Final = 826
_LEFT: Final = 30
_WHOLE: Final = 535  # width of the text
_CHARTS: Final = 345  # width of the charts
_SIDE: Final = 392  # where the right column begins
_SIDE_WIDTH: Final = 173
_AXIS: Final = 22  # height of the times below the last chart
_LEGEND: Final = 24
_LEAST_CHART: Final = 40  # height with its title
_MOST_CHART: Final = 165
_TITLE: Final = 11
_MOST_LABELS: Final = 3  # of a vertical axis; of five codes, every other one
_SCALES: Final = (1.0, 0.94, 0.88, 0.82, 0.76)  # of the text in the right column; smaller cannot be read on paper

_QUIET, _RED, _AMBER, _BLUE = "#4a5866", "#a3001b", "#7a4b00", "#12304a"
_AREAS: Final = {"usual": "#e4e9ed", "urgent": "#fbdde0", "attention": "#fff0cc"}
_HATCH: Final[dict[str, Any]] = {"facecolor": "none", "edgecolor": "#8794a0", "hatch": "////", "linewidth": 0}
_MARKERS: Final[Mapping[str, dict[str, Any]]] = {  # of a reading that does not count, or has no exact value
    "corrected": {"marker": "x", "color": _AMBER},
    "retracted": {"marker": "+", "color": _RED},
    "quarantined": {"marker": "s", "color": _RED, "markerfacecolor": "none"},
    "bound": {"marker": "d", "color": _RED},
}


def summary_pdf(view: PatientView, words: Words, zone: ZoneInfo, printed_at: datetime, by: str) -> bytes:
    """Return the page.

    Args:
        view: of the patient.
        words: in the reader's language.
        zone: of the times on the page, which names it.
        printed_at, by: when it was made, and for whom.
    """
    figure = draw_summary(view, words, zone, printed_at, by)
    content = io.BytesIO()
    # Without the usual entries: title and author would name somebody in the list of a printer.
    figure.savefig(content, format="pdf", metadata={"Title": "Vigil", "CreationDate": None, "Creator": None, "Producer": None})
    return content.getvalue()


def draw_summary(view: PatientView, words: Words, zone: ZoneInfo, printed_at: datetime, by: str) -> "Figure":
    """Return the page as a figure, for the arguments of :func:`summary_pdf`."""
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.figure import Figure

    figure = Figure(figsize=(PAGE[0] / _INCH, PAGE[1] / _INCH))
    FigureCanvasPdf(figure)
    top = write(figure, wrap(_head(view, words, zone), _WHOLE), _LEFT, _TOP) + 6
    stamp = f"{words('view.printed')} {_time(printed_at, zone)} ({zone.key}), {by}. {words('site.decision_aid')}"
    lines = wrap([Line(stamp, 7, color=_QUIET)], _WHOLE)
    bottom = _BOTTOM - height_of(lines)
    write(figure, lines, _LEFT, bottom)
    charts_top = _draw_risk(figure, view, words, top)
    _draw_legend(figure, words, bottom - 3)
    _draw_charts(figure, view, words, zone, charts_top + 4, bottom - 3 - _LEGEND)
    _draw_side(figure, _side(view, words, zone), words, top, bottom - 4)
    return figure


def _head(view: PatientView, words: Words, zone: ZoneInfo) -> list[Line]:
    """Return who it is, and everything that warns."""
    registration, report = view.registration, view.report
    facts = []
    if registration is not None:
        facts += [words("view.ward", ward=registration.ward)] if registration.ward else []
        facts += [words("view.aged", age=f"{registration.age:.0f}")] if registration.age is not None else []
        facts += [words("view.male" if registration.sex else "view.female")] if registration.sex is not None else []
    lines = [Line(view.name or "?", 17, is_bold=True), Line(", ".join(facts), 9, color=_QUIET)]
    warnings = [words("view.merged")] if view.merged_into else []
    warnings += [words("view.left")] if registration is not None and registration.discharged else []
    if report is None:
        warnings.append(words("view.no_risk"))
    else:
        warnings += [_bound(one, words) for one in view.bounds if one.is_critical]
        warnings += [words.finding(name) for name in report.risk.findings]
        simulated = report.model is not None and report.model.model.metadata_.get("simulated")
        warnings += [words("site.simulated")] if simulated else []
    warnings += [f"{words('view.cut')} {_time(instant(view.cut_before), zone)}"] if view.cut_before is not None else []
    return [*lines, *(Line(f"! {text}", 8.5, is_bold=True, color=_RED, gap=1) for text in warnings)]


def _draw_risk(figure: "Figure", view: PatientView, words: Words, top: float) -> float:
    """Draw the risk and NEWS2; return where they end."""
    if view.report is None:
        return top
    risk = view.report.risk
    chance = [Line(words("patient.no_probability"), 9, is_bold=True)]
    if risk.probability is not None:
        chance = [Line(words.percent(risk.probability), 16, is_bold=True)]
    if view.report.range is not None:
        low, high = (words.percent(bound) for bound in view.report.range)
        chance.append(Line(words("patient.range", low=low, high=high), 8))
    news2 = [Line(f"NEWS2 {risk.news2}", 16, is_bold=True)]
    if risk.news2_highest > risk.news2:
        news2.append(Line(words("patient.news2_up_to", highest=risk.news2_highest), 8))
    columns = ((0, 100, [Line(words(f"band.{risk.band}").upper(), 13, is_bold=True)]), (105, 130, chance), (240, 105, news2))
    return max(write(figure, wrap(lines, width), _LEFT + left, top) for left, width, lines in columns)


def _draw_charts(figure: "Figure", view: PatientView, words: Words, zone: ZoneInfo, top: float, bottom: float) -> None:
    """Draw as many charts as can be read, and name the others with their latest value."""
    panels = [*view.course, *view.signals]
    number, others = len(panels), list[Line]()
    while number and (bottom - top - _AXIS - height_of(others)) / number < _LEAST_CHART:
        number -= 1
        values = "; ".join(_latest(panel, words) for panel in panels[number:])
        others = wrap([Line(f"{words('view.no_chart')}: {values}", 7)], _CHARTS)
    bottom = bottom - height_of(others)
    write(figure, others, _LEFT, bottom)
    height = min((bottom - top - _AXIS) / max(number, 1), _MOST_CHART)
    for place, panel in enumerate(panels[:number]):
        box = (_LEFT, top + place * height + _TITLE, _CHARTS, height - _TITLE - 2)
        _draw_panel(figure.add_axes(share_of(box)), panel, view.span, words, zone, is_last=place == number - 1)


def _latest(panel: Panel, words: Words) -> str:
    if not panel.latest:
        return f"{panel.name}: {words('view.nothing_counts')}"
    age = "" if panel.latest_hours is None else f" ({words.age(panel.latest_hours)})".replace(" ", "\N{NO-BREAK SPACE}")
    return f"{panel.name} {panel.latest}{age}"


def _draw_panel(axes: "Axes", panel: Panel, span: Span, words: Words, zone: ZoneInfo, *, is_last: bool) -> None:
    axes.set_xlim(0, 100)
    axes.set_ylim(100, 0)
    for top, bottom, kind in panel.bands:
        axes.axhspan(top, bottom, color=_AREAS[kind], linewidth=0)
    for start, end in panel.gaps:
        axes.axvspan(start, end, **_HATCH)
    for height, _ in panel.lines:
        axes.axhline(height, color=_RED, linestyle="--", linewidth=0.7)
    for part in panel.parts:
        axes.plot(*zip(*part, strict=True), color=_BLUE, linewidth=0.9, drawstyle="steps-post" if panel.is_step else "default")
    for x, y in panel.dots:
        axes.plot([x], [y], color=_BLUE, marker=".", markersize=3)
    for mark in panel.marks:
        if mark.kind == "alarm":
            axes.axvline(mark.x, color=_RED, linewidth=1.2)
        elif 0 <= mark.x <= 100:
            axes.plot([mark.x], [mark.y], **_MARKERS[mark.kind], markersize=4, linestyle="none", clip_on=False)
    axes.set_yticks([])
    labels = panel.labels if len(panel.labels) <= _MOST_LABELS else panel.labels[::2]
    for place, text in labels:
        align = "top" if place < 12 else "bottom" if place > 88 else "center"
        axes.text(0.5, place, text, fontsize=5.5, color=_QUIET, va=align)
    ticks = span.ticks(zone)
    names = [_tick_name(tick.time, words, span.is_of_days, tick.is_new_day) if is_last else "" for tick in ticks]
    axes.set_xticks([tick.place for tick in ticks], names, fontsize=6)
    axes.tick_params(axis="x", length=2, pad=1)
    axes.grid(visible=True, axis="x", color="#d5dce2", linewidth=0.5)
    age = "" if panel.latest_hours is None else f", {words.age(panel.latest_hours)}"
    axes.set_title(f"{panel.label}   {panel.latest}{age}", fontsize=7, loc="left", pad=2)


def _tick_name(time: datetime, words: Words, is_of_days: bool, is_new_day: bool) -> str:
    day = words("view.day", time=time)
    return day if is_of_days else f"{time:%H:%M}\n{day}" if is_new_day else f"{time:%H:%M}"


def _draw_legend(figure: "Figure", words: Words, bottom: float) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    marks: list[Any] = [
        Line2D([], [], **_MARKERS[kind], markersize=4, linestyle="none", label=words(f"view.key_{kind}")) for kind in _MARKERS
    ]
    others: list[Any] = [
        Patch(color=_AREAS["usual"], label=words("view.key_usual")),
        Patch(**_HATCH, label=words("view.key_gap")),
        Line2D([], [], color=_RED, linestyle="--", linewidth=0.7, label=words("view.key_level")),
        Line2D([], [], color=_RED, linewidth=1.2, label=words("view.key_alarm")),
    ]
    left, low, _, _ = share_of((_LEFT, bottom - _LEGEND, _CHARTS, _LEGEND))
    figure.legend(
        handles=[one for pair in zip(others, marks, strict=True) for one in pair], loc="lower left", bbox_to_anchor=(left, low),
        ncols=4, fontsize=5.5, frameon=False, borderpad=0, borderaxespad=0, columnspacing=1, handlelength=1.6, labelspacing=0.3,
    )  # fmt: skip


def _side(view: PatientView, words: Words, zone: ZoneInfo) -> list[Line]:
    """Return the right column: what the risk rests on, what was decided for the patient, and the story of their alarms."""
    lines = _basis(view, words, zone)
    parts: list[tuple[str, Sequence[str | Line]]] = []
    if view.report is not None and view.report.terms is not None:
        parts.append((words("view.terms"), _terms(view.report.terms, words)))
    parts.append((words("view.contributions"), _why(view, words)))
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
        stories = [line for alarm in view.alarms for line in _story(alarm, view.people, words, zone)]
        parts.append((words("view.alarms"), stories or [words("view.no_alarms")]))
    for title, texts in parts:
        lines.append(Line(title, 8.5, is_bold=True, gap=6))
        lines += [text if isinstance(text, Line) else Line(text) for text in texts]
    return lines


def _basis(view: PatientView, words: Words, zone: ZoneInfo) -> list[Line]:
    report = view.report
    if report is None:
        return []
    age, risk = report.latest_reading_hours, report.risk
    is_by_model = report.model is not None and risk.basis == "model"
    texts = [
        words.question(report.task),
        f"{words('view.as_of')} {_time(report.as_of, zone)}; {words('view.data_age')}: "
        + (words("patient.no_reading") if age is None else words.age(age)),
        f"{words('view.model')}: "
        + (
            words("view.model_version", name=report.model.name, version=report.model.version)
            if report.model is not None and is_by_model
            else words("view.no_model")
        ),
        *(["; ".join(words.reason(name) for name in risk.reasons)] if risk.reasons else []),
    ]
    cells = [Line(_cell(cell, words), 7) for cell in view.news2]
    bounds = [Line(_bound(one, words)) for one in view.bounds if not one.is_critical]
    return [*(Line(text, 8) for text in texts), *cells, *bounds]


def _cell(cell: SignalCell, words: Words) -> str:
    """Return a component of NEWS2: what was measured, how old it is, and what it counts."""
    name = words.short(cell.signal)
    if cell.value is None or cell.hours is None:
        counted = words("patient.not_measured")
    else:
        counted = f"{words.value(cell.signal, cell.value)}, {words.age(cell.hours)}: "
        counted += words("patient.too_old") if cell.is_expired else words("patient.points", cell.points or 0)
    if cell.bound is None:
        return f"{name} {counted}"
    return f"{name} {words.bound(cell.signal, cell.bound.side, cell.bound.limit)}, {words.age(cell.bound.hours)} ({counted})"


def _bound(one: StandingBound, words: Words) -> str:
    own = f", {words('patient.own_limit')}" if one.is_own else ""
    return f"{words.signal(one.signal)}: {words.bound(one.signal, one.side, one.limit)}{own}, {words.age(one.hours)}"


def _terms(terms: Any, words: Words) -> list[str]:
    texts = [words("view.terms_by", who=terms.by, because=terms.because)]
    texts += [words("view.scale2")] if terms.spo2_scale == 2 else []
    if terms.alarm_threshold is not None:
        texts.append(words("view.own_threshold", percent=words.percent(terms.alarm_threshold)))
    if terms.news2_alarm_from is not None:
        texts.append(words("view.own_news2", score=terms.news2_alarm_from))
    for signal, limits in terms.limits.items():
        for side in ("low", "high"):
            if (limit := getattr(limits, side)) is not None:
                texts.append(words(f"view.limit_{side}", signal=words.signal(signal), value=words.value(signal, limit)))
    return texts


def _why(view: PatientView, words: Words) -> list[str]:
    if view.contributions:
        return _bars(view.contributions, words)
    is_by_news2 = view.report is not None and view.report.risk.basis == "news2"
    none = "patient.reasons_unknown" if view.contributions is None else "patient.no_reasons"
    return [words("view.by_news2" if is_by_news2 else none)]


def _bars(contributors: Sequence[Contributor], words: Words) -> list[str]:
    missing = f" ({words('patient.not_measured')})"
    return [
        f"{words.signal(one.signal)}{missing if one.measured is False else ''}: "
        f"{words('view.for_it' if one.share > 0 else 'view.against_it')} ({abs(one.share):.0%})"
        for one in contributors
    ]


def _story(alarm: Alarm, people: Mapping[str, str], words: Words, zone: ZoneInfo) -> list[Line]:
    cause = words("alarm.caused_by", cause=words(f"alarm.cause.{alarm.cause}")) if alarm.cause and alarm.sounded else ""
    text = (
        f"{words('alarm.open' if alarm.sounded else 'alarm.withheld')} {_time(instant(alarm.opened_at), zone)} {cause}".strip()
    )
    ended = f"{words('view.ended')} {_time(instant(alarm.ended_at), zone)}" if alarm.ended_at else words("view.goes_on")
    lines = [Line(f"{text}, {ended}", gap=2)]
    lines += [Line(words("alarm.basis_retracted"), color=_RED)] if alarm.basis_retracted_at else []
    for action in alarm.actions:
        name, reason = people.get(action.by, action.by), f", {words.override(action.reason)}" if action.reason else ""
        lines.append(Line(f"{_time(instant(action.at), zone)} {words('alarm.' + action.action)}: {name}{reason}"))
    return lines


def _draw_side(figure: "Figure", texts: Sequence[Line], words: Words, top: float, bottom: float) -> None:
    """Write the right column, smaller where it is long; what finds no room even so is counted."""
    lines: list[Line] = []
    for scale in _SCALES:
        lines = wrap((replace(text, size=scale * text.size, gap=scale * text.gap) for text in texts), _SIDE_WIDTH)
        if top + height_of(lines) <= bottom:
            break
    kept = len(lines)
    rest: list[Line] = []
    while top + height_of([*lines[:kept], *rest]) > bottom:
        kept -= 1
        rest = wrap([Line(words("view.more_lines", n=len(lines) - kept), 7, is_bold=True, color=_RED)], _SIDE_WIDTH)
    write(figure, [*lines[:kept], *rest], _SIDE, top)


def _time(time: Any, zone: ZoneInfo) -> str:
    return f"{time.astimezone(zone):%Y-%m-%d %H:%M}"
