"""Charts of a patient: the times at the axis, the usual range, and what a bound does to a line."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from vigil.models.alarms.critical_bounds import Bound
from vigil.models.alarms.patient_terms import PatientTerms
from vigil.models.bedside import Component
from vigil.serving.pages.charts import Span, sparkline
from vigil.serving.pages.patient_charts import Readings, signal_panels
from vigil.serving.pages.signal_cells import shown_bounds, signal_cells
from vigil.serving.pages.site import ENVIRONMENT, render_part
from vigil.serving.records.journal_readings import StoredReading
from vigil.serving.words import Words

HOUR = 3_600_000_000
BERLIN = ZoneInfo("Europe/Berlin")


def time_of(text):
    return round(datetime.fromisoformat(text).timestamp() * 1e6)


def panel_of(*readings, span, terms=None):
    """Return the chart of readings, each with its signal, time and value."""
    stored = [
        StoredReading(row, "p", name, at, value, at, None, None, None, None, None)
        for row, (name, at, value) in enumerate(readings)
    ]
    (panel,) = signal_panels(Readings(stored, frozenset(), []), span, Words("en"), terms, span.until)
    return panel


def test_days_are_told_once_and_from_a_week_on_alone():
    day = Span(time_of("2026-11-29T12:30Z"), time_of("2026-11-30T12:30Z")).ticks(BERLIN)
    assert [(f"{tick.time:%d %H:%M}") for tick in day if tick.is_new_day] == ["29 15:00", "30 00:00"]
    assert [f"{tick.time:%H:%M}" for tick in day][:4] == ["15:00", "18:00", "21:00", "00:00"]
    week = Span(time_of("2026-11-23T12:30Z"), time_of("2026-11-30T12:30Z"))
    assert week.is_of_days
    assert [f"{tick.time:%d %H:%M}" for tick in week.ticks(BERLIN)] == [f"{number} 00:00" for number in range(24, 31)]


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25)])
def test_ticks_follow_the_clock_where_it_is_changed(day, hours):
    since = time_of(f"{day}T00:00+0{1 if hours == 23 else 2}:00")
    names = [f"{tick.time:%H:%M}" for tick in Span(since, since + hours * HOUR).ticks(BERLIN)]
    assert names == ["00:00", "03:00", "06:00", "09:00", "12:00", "15:00", "18:00", "21:00", "00:00"]


def test_the_axis_without_scripts_has_the_day_too():
    span = Span(time_of("2026-11-23T12:30Z"), time_of("2026-11-30T12:30Z"))
    panel = panel_of(("spo2", span.until, 95.0), span=span)
    charts = ENVIRONMENT.get_template("charts.html").make_module({"t": Words("de")})
    shown = str(charts.panel(panel, span, ""))
    assert [f">{number}.11.</text>" in shown for number in range(24, 31)] == [True] * 7
    assert "00:00</text>" not in shown


def test_the_usual_spo2_is_that_of_the_scale_of_the_patient():
    span = Span(0, 10 * HOUR)
    readings = [("spo2", hour * HOUR, value) for hour, value in ((1, 80.0), (2, 100.0))]

    def edges(terms):
        """Return the ends of the usual range as values: the scale goes from 78.8 to 101.2 %."""
        ((top, bottom, _),) = panel_of(*readings, span=span, terms=terms).bands
        return [round(101.2 - share * 22.4 / 100, 1) for share in (bottom, top)]

    assert edges(None) == [95.5, 101.2]
    assert edges(PatientTerms(0, "dr", "COPD", spo2_scale=2)) == [87.5, 92.5]


def test_a_bound_was_measured_and_no_line_goes_through_it():
    span = Span(0, 4 * HOUR)
    quarter = HOUR // 4
    values = [("spo2", place * quarter, 95.0) for place in range(9) if place != 4]
    panel = panel_of(*values[:4], ("spo2_below_range", 4 * quarter, 70.0), *values[4:], span=span)
    assert [len(part) for part in panel.parts] == [4, 4]
    assert list(panel.gaps) == [(50.0, 100.0)]
    assert panel.latest.startswith("95")
    newest = panel_of(*values, ("spo2_below_range", 9 * quarter, 70.0), span=span)
    assert (newest.latest.replace("\N{NO-BREAK SPACE}", " "), newest.latest_hours) == ("at or below 70 %", 1.75)
    assert [mark.text.replace("\N{NO-BREAK SPACE}", " ") for mark in newest.marks] == ["At or below 70 %"]
    assert newest.gaps[-1] == (56.25, 100.0)
    above = panel_of(("glucose_above_range", HOUR, 600.0), span=span)
    assert above.marks[0].text.replace("\N{NO-BREAK SPACE}", " ") == "At or above 600 mg/dL"


def test_the_trend_of_a_row_says_its_ends_to_those_who_cannot_see_it():
    trend = sparkline([0, 50, 100], [0.12, 0.5, 0.34], 0, 100)
    facts = {
        "band": "low",
        "probability": 0.34,
        "news2": 0,
        "news2_highest": 0,
        "patient_id": "p",
        "reasons": [],
        "findings": [],
    }
    row = {"id": "x", "patient": facts, "range": None, "is_stale": False, "alarm": None, "latest_hours": None, "reasons": []}
    row |= {"bounds": [], "signals": [], "trend": trend}
    shown = render_part("ward_row.html", Words("en"), row=row, trend_hours=6, may_open=False, may_act=False)
    assert 'role="img" aria-label="Last 6 h: risk from 12 % to 34 %"' in shown


def test_a_mark_at_the_edge_is_not_cut_off():
    span = Span(0, 10 * HOUR)
    panel = panel_of(("spo2", HOUR, 95.0), ("spo2_below_range", 10 * HOUR, 30.0), span=span)
    assert panel.marks[0].y > 91
    shown = str(ENVIRONMENT.get_template("charts.html").make_module({"t": Words("en")}).panel(panel, span, ""))
    assert '<text class="mark bound" x="100.0%" y="91%" dy="0.35em" text-anchor="end">↕' in shown


def test_a_list_of_many_marks_says_how_many_it_leaves_out():
    span = Span(0, 10 * HOUR)
    panel = panel_of(*(("spo2_below_range", minute * HOUR // 60, 70.0) for minute in range(1, 63)), span=span)
    shown = str(ENVIRONMENT.get_template("charts.html").make_module({"t": Words("en")}).panel(panel, span, ""))
    assert "<summary>62 marked readings</summary>" in shown
    assert shown.count("<li>") == 50
    assert "Earlier ones: 12." in shown
    assert '<time datetime="1970-01-01T01:02:00+00:00"' in shown.partition("</li>")[0]  # the newest is first


@pytest.mark.parametrize(("hours", "is_shown"), [(0.2, False), (0.6, True), (None, True)])
def test_a_cell_shows_a_bound_unless_an_exact_value_came_later(hours, is_shown):
    bounds = shown_bounds([Bound("spo2_below_range", 90.0, 0)], HOUR // 2)
    (cell,) = signal_cells({"spo2": Component(3, None if hours is None else 85.0, hours)}, 0.0, bounds)
    assert (cell.bound is not None) == is_shown
