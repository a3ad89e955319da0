"""The summary as PDF: everything that the page says is on it, within its edges, or it says what is not."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tests.support.in_process_server import observations_body, running_in_process
from vigil.features.signals import SIGNALS
from vigil.serving.auth.tokens import SCOPES, Caller
from vigil.serving.pages.patient_charts import choose_span
from vigil.serving.pages.summary_pdf import draw_summary
from vigil.serving.words import Words

VITALS = {
    "respiratory_rate": 27, "spo2": 92, "on_oxygen": 1, "fio2": 40, "systolic_bp": 101, "diastolic_bp": 62, "mean_bp": 75,
    "heart_rate": 118, "consciousness": 0, "body_temperature": 38.6, "glucose": 180,
}  # fmt: skip
LABORATORY = {name: signal.usual for name, signal in SIGNALS.items() if signal.kind == "laboratory"}
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A patient in ward A of whom everything is known, and what does not hold; and one who has left."""
    with running_in_process(tmp_path_factory.mktemp("summary")) as running:
        client, now = running.caller(), pd.Timestamp.now("UTC")
        patients = [{"patient_id": name, "ward": "A", "age": 71, "sex": "male"} for name in ("Bo $1$ Å", "old", "gone")]
        client.post("/v1/patients", json={"patients": patients}).raise_for_status()
        for hours in (20, 12, 9, 6, 3, 1):
            values = VITALS | (LABORATORY if hours == 6 else {})
            body = observations_body("Bo $1$ Å", values, now - pd.Timedelta(hours=hours))
            for one in body["observations"]:
                one["unit"] = SIGNALS[one["signal"]].unit
            client.post("/v1/observations", json=body).raise_for_status()
        running.rescore()
        fields = {"patient_id": "Bo $1$ Å", "source": "tests", "signal": "spo2"}
        late = fields | {"message_id": "late", "observed_at": (now - pd.Timedelta(hours=8)).isoformat()}
        low = fields | {"message_id": "low", "observed_at": (now - pd.Timedelta(minutes=10)).isoformat(), "comparator": "<"}
        wrong = fields | {"message_id": "wrong", "observed_at": (now - pd.Timedelta(hours=2)).isoformat(), "value": 412}
        taken = fields | {"message_id": "taken", "observed_at": (now - pd.Timedelta(hours=5)).isoformat()}
        for one in (
            late | {"value": 71}, late | {"value": 93, "status": "corrected", "version": 2}, wrong, taken | {"value": 66},
            taken | {"value": None, "status": "retracted", "version": 2}, low | {"value": 70},
        ):  # fmt: skip
            client.post("/v1/observations", json={"observations": [one]}).raise_for_status()
        terms = {"patient_id": "Bo $1$ Å", "because": "target 88 to 92 percent", "spo2_scale": 2}
        terms |= {"limits": {"heart_rate": {"high": 110}}}
        client.post("/v1/patients/terms", json=terms).raise_for_status()
        running.rescore()
        client.post("/v1/observations", json=observations_body("gone", {"heart_rate": 80})).raise_for_status()
        client.post("/v1/patients", json={"patients": [{"patient_id": "gone", "ward": "A", "discharged": True}]})
        running.rescore()
        yield running


def figure_of(server, name="Bo $1$ Å", language="en", hours=24, **changes):
    """Return the page of a patient as a figure."""
    words, subject = Words(language), server.components.pseudonyms.subject_key(name)
    span = choose_span(datetime.now(UTC), hours, None, None)
    view = server.components.patient_views.view(subject, span, Caller("nurse", frozenset(SCOPES), None, 0), words)
    return draw_summary(replace(view, **changes), words, BERLIN, datetime.now(UTC), "nurse")


def texts_of(figure):
    """Return the text of the page beside the charts, and the titles of the charts."""
    titles = [axes.get_title(loc="left").replace("\N{NO-BREAK SPACE}", " ") for axes in figure.axes]
    return " ".join(text.get_text() for text in figure.texts).replace("\N{NO-BREAK SPACE}", " "), titles


def test_every_signal_is_a_chart_or_is_named_with_its_value_and_age(server):
    written, titles = texts_of(figure_of(server))
    words = Words("en")
    assert [title.partition("   ")[0] for title in titles[1:12]] == [words.label(name) for name in VITALS]
    assert re.search(r"SpO2, %   at or below 70 %, 1\d min\n", "\n".join(titles))
    assert re.search(r"Heart rate, /min   118/min, \d+ min\n", "\n".join(titles))
    named = written.partition("Without a chart: ")[2]
    charted = {title.partition("   ")[0] for title in titles}
    others = [name for name in LABORATORY if words.label(name) not in charted]
    assert len(others) > 10
    for name in others:
        assert f"{words.signal(name)} {words.value(name, LABORATORY[name])} (6 h)".replace("\N{NO-BREAK SPACE}", " ") in named


def test_what_warns_comes_first(server):
    written, _ = texts_of(figure_of(server))
    first = r"Bo \$1\$ Å Ward A, 71 years, male ! SpO2: at or below 70 %, 1\d min ! Heart rate: at or above 110/min, a limit"
    assert re.match(first, written)
    for part in ("! no model is in use", "a critical reading"):
        assert part in written
    assert written.index("! no model is in use") < written.index("HIGH") < written.index("Decided for this patient")
    gone, _ = texts_of(figure_of(server, "gone", merged_into="somebody", cut_before=1_769_904_000_000_000))
    for part in ("! Monitoring has ended.", "! Merged into another patient", "left out: 2026-02-01 01:00", "up to 17"):
        assert part in gone


def test_it_says_what_was_decided_and_that_the_basis_of_an_alarm_was_retracted(server):
    written, _ = texts_of(figure_of(server))
    for part in ("tests: target 88 to 92 percent", "SpO2 scale 2", "Heart rate not above 110/min"):
        assert part in written
    assert re.search(r"SpO2 at or below 70 %, 1\d min \(92 %, \d+ min: 0 points\)", written)
    subject = server.components.pseudonyms.subject_key("Bo $1$ Å")
    (alarm,) = server.components.ward_state.alarms(subject=subject)
    basis, _ = texts_of(figure_of(server, alarms=[replace(alarm, basis_retracted_at=1)]))
    assert "A reading behind this alarm was corrected or retracted." in basis
    assert "A reading that it rests on" not in written


def test_marks_of_different_kinds_differ_and_are_explained(server):
    figure = figure_of(server)
    (axes,) = [axes for axes in figure.axes if axes.get_title(loc="left").startswith("SpO2")]
    drawn = [line.get_marker() for line in axes.lines if line.get_marker() in ("x", "+", "s", "d")]
    assert sorted(drawn) == ["+", "d", "s", "x"]
    explained = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"corrected", "retracted", "not used", "at or beyond, no exact value", "usual range"} <= explained


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("number", [1, 200])
def test_nothing_runs_over_the_edges_or_into_something_else_and_what_is_left_out_is_counted(server, language, number):
    subject = server.components.pseudonyms.subject_key("Bo $1$ Å")
    (alarm,) = server.components.ward_state.alarms(subject=subject)
    figure = figure_of(server, language=language, alarms=[alarm] * number, name="Bo $1$ Å")
    left_out = {"en": "Lines that found no room here: ", "de": "Zeilen, die hier keinen Platz fanden: "}[language]
    assert (left_out in texts_of(figure)[0]) == (number > 1)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in figure.texts if text.get_text()]
    boxes += [legend.get_window_extent(canvas.get_renderer()) for legend in figure.legends]
    assert all(box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in boxes)
    charts = [axes.get_tightbbox(canvas.get_renderer()) for axes in figure.axes]
    for one, other in combinations(boxes, 2):
        assert not one.shrunk(0.98, 0.8).overlaps(other.shrunk(0.98, 0.8))
    for box in boxes:
        assert not any(box.shrunk(0.98, 0.8).overlaps(chart.shrunk(0.98, 0.98)) for chart in charts)


def test_ticks_say_their_day_by_the_clock_of_the_reader(server):
    axes = figure_of(server, hours=168).axes[-1]
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert len(set(names)) == len(names) >= 7
    assert not any(":" in name for name in names)
    first, *others = [label.get_text() for label in figure_of(server).axes[-1].get_xticklabels()]
    assert re.fullmatch(r"\d\d:00\n\d+ \w{3}", first)
    assert [name.partition("\n")[0] for name in others if "\n" in name] in (["00:00"], [])
