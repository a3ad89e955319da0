"""Signals that stop and gateways that die, on a clock that the test sets: each is told once, within minutes."""

import pytest
import sqlalchemy as sa

from tests.support.fake_ward import FakeWard
from vigil.features.rhythm import MINUTE_US
from vigil.serving.records.silence_rows import SILENCE_KINDS, DeviceReport
from vigil.serving.records.ward_tables import EVENTS, RISKS, SILENCES
from vigil.serving.stream.rescorer import Rescorer

MONITOR = {"heart_rate": 80.0, "spo2": 96.0}


class Watched(FakeWard):
    """A ward whose patients wear monitors that send a value a minute, and are charted by hand."""

    def minutes(self, number, monitors, *, source="gateway-1", chart=(), every=1):
        """Pass minutes; each monitor sends its signals (by patient), and a cuff of another gateway sends for some."""
        for _ in range(0, number, every):
            self.wait(minutes=every)
            group = []
            for patient, signals in monitors.items():
                values = {signal: MONITOR[signal] + self.messages % 2 for signal in signals}
                if values:
                    group.append(self.message(patient, source, f"monitor-{patient}", values))
            for patient in chart:
                cuff = {"systolic_bp": 120.0 + self.messages % 2}
                group.append(self.message(patient, "gateway-2", f"cuff-{patient}", cuff))
            if group:
                self.send_together(*group)
            self.rescore()

    def told(self, *kinds):
        events = [row for row in self.rows(EVENTS) if row["kind"] in (kinds or SILENCE_KINDS)]
        return [(row["kind"], row["subject_id"], row["body"].get("signal") or row["body"]["source"]) for row in events]

    def silences(self):
        with self.ward_state._engine.connect() as connection:
            return [dict(row) for row in connection.execute(sa.select(SILENCES).order_by(SILENCES.c.raised_at)).mappings()]


@pytest.fixture
def ward(tmp_path):
    ward = Watched(tmp_path)
    ward.register("p1", "p2")
    ward.rescore()
    return ward


def test_a_signal_that_stops_is_told_once_within_minutes_and_again_when_it_returns(ward):
    ward.minutes(20, {"p1": MONITOR})
    assert ward.told() == []
    stopped_at = ward.now
    while not ward.told():
        ward.minutes(1, {"p1": ["heart_rate"]})
    assert ward.now - stopped_at <= 8 * MINUTE_US
    ward.minutes(60, {"p1": ["heart_rate"]})
    assert ward.told() == [("signal_stopped", "p1", "spo2")]
    (event,) = [row for row in ward.rows(EVENTS) if row["kind"] == "signal_stopped"]
    assert event["ward"] == "A"
    device = {"source": "gateway-1", "device_id": "monitor-p1"}
    assert event["body"] == {"signal": "spo2", **device, "since": stopped_at, "cause": "overdue"}
    ward.minutes(1, {"p1": MONITOR})
    ward.minutes(10, {"p1": MONITOR})
    assert ward.told() == [("signal_stopped", "p1", "spo2"), ("signal_returned", "p1", "spo2")]
    assert ward.ward_state.silences.open() == []


def test_what_had_stopped_is_known_as_of_each_time(ward):
    ward.minutes(20, {"p1": MONITOR})
    ward.minutes(15, {"p1": ["heart_rate"]})
    ward.minutes(5, {"p1": MONITOR})
    (silence,) = ward.silences()
    known = ward.ward_state.silences.stopped
    times = (silence["raised_at"] - 1, silence["raised_at"], silence["resolved_at"] - 1, silence["resolved_at"])
    assert [bool(known({"p1": time, "p2": time})) for time in times] == [False, True, True, False]


def test_everything_of_a_patient_that_stops_is_no_stopped_signal(ward):
    ward.minutes(20, {"p1": MONITOR, "p2": MONITOR})
    ward.minutes(60, {"p2": MONITOR})
    assert ward.told() == []


def test_a_chart_does_not_hide_that_a_monitor_stopped_and_does_not_end_it(ward):
    ward.minutes(20, {"p1": MONITOR}, chart=["p1"])
    for _ in range(3):
        ward.send("p1", source="gateway-2", device="chart", heart_rate=81.0, spo2=97.0)
        ward.minutes(40, {}, chart=["p1"])
    assert ward.told() == [("signal_stopped", "p1", "heart_rate"), ("signal_stopped", "p1", "spo2")]


def test_another_device_that_sends_as_often_takes_over(ward):
    ward.minutes(20, {"p1": MONITOR}, chart=["p1"])
    ward.minutes(30, {"p1": MONITOR}, source="gateway-3", chart=["p1"])
    assert ward.told() == []


def test_charting_every_four_hours_is_not_expected_after_one(ward):
    for _ in range(12):
        ward.send("p1", source="gateway-2", device="chart", body_temperature=37.0 + ward.messages % 2)
        ward.minutes(240, {"p1": []}, every=30)
        ward.send("p1", heart_rate=80 + ward.messages % 2)
        ward.rescore()
    assert ward.told() == []


def test_a_correction_is_no_sign_of_life(ward):
    ward.minutes(20, {"p1": MONITOR})
    message, at = f"m{ward.messages}", ward.time
    for _ in range(4):
        ward.minutes(3, {"p1": ["heart_rate"]})
        row = {"subject_id": "p1", "signal": "spo2", "value": 90.0 + ward.messages % 5, "unit": None, "source": "gateway-1"}
        row |= {"device_id": "monitor-p1", "message_id": message, "observed_at": at, "status": "corrected", "version": None}
        assert ward.journal.append(lambda row=row: [row])[0].status == "accepted"
    assert ward.told() == [("signal_stopped", "p1", "spo2")]


def test_a_gateway_of_twenty_patients_that_dies_is_one_event(ward):
    patients = [f"q{number}" for number in range(20)]
    ward.register(*patients)
    ward.rescore()
    monitors = dict.fromkeys(patients, MONITOR)
    ward.minutes(12, monitors, chart=patients[:5])
    ward.minutes(30, {}, chart=patients[:5], every=2)
    assert ward.told() == [("source_silent", None, "gateway-1")]
    ward.restart()
    ward.minutes(20, {}, chart=patients[:5], every=2)
    assert ward.told() == [("source_silent", None, "gateway-1")]
    ward.minutes(7, monitors, chart=patients[:5])
    assert ward.told() == [("source_silent", None, "gateway-1"), ("source_returned", None, "gateway-1")]


def test_a_patient_who_is_missing_after_the_gateway_returned_is_told(ward):
    ward.minutes(20, {"p1": MONITOR, "p2": MONITOR}, chart=["p1", "p2"])
    ward.minutes(20, {}, chart=["p1", "p2"])
    ward.minutes(40, {"p1": MONITOR}, chart=["p1", "p2"])
    assert ward.told("source_silent", "source_returned") == [
        *(("source_silent", None, "gateway-1"), ("source_returned", None, "gateway-1"))
    ]
    assert sorted(ward.told("signal_stopped")) == [*(("signal_stopped", "p2", signal) for signal in MONITOR)]


def test_a_restart_repeats_no_event_and_the_return_is_told(ward):
    ward.minutes(20, {"p1": MONITOR})
    ward.minutes(15, {"p1": ["heart_rate"]})
    ward.restart()
    ward.minutes(30, {"p1": ["heart_rate"]})
    assert ward.told() == [("signal_stopped", "p1", "spo2")]
    ward.restart()
    ward.minutes(2, {"p1": MONITOR})
    assert ward.told()[1:] == [("signal_returned", "p1", "spo2")]


def test_after_a_restart_the_rhythm_is_known_from_the_journal(ward):
    ward.minutes(20, {"p1": MONITOR})
    ward.restart()
    ward.minutes(10, {"p1": ["heart_rate"]})
    assert ward.told() == [("signal_stopped", "p1", "spo2")]


def test_a_server_that_was_down_calls_nothing_silent(ward):
    ward.minutes(20, {"p1": MONITOR, "p2": MONITOR})
    ward.wait(hours=2)
    ward.restart()
    ward.minutes(20, {"p1": MONITOR, "p2": MONITOR})
    assert ward.told() == []


def test_nothing_is_told_of_a_patient_who_left_and_what_is_open_ends(ward):
    ward.minutes(20, {"p1": MONITOR, "p2": MONITOR})
    ward.minutes(15, {"p1": ["heart_rate"], "p2": MONITOR})
    ward.register("p1", "p2", discharged=True)
    ward.minutes(30, {"p2": ["heart_rate"]})
    assert ward.told() == [("signal_stopped", "p1", "spo2")]
    assert [row["resolved_at"] is not None for row in ward.silences()] == [True]


def test_a_late_batch_is_no_rhythm_and_no_storm(ward):
    for _ in range(12):
        observed = [ward.time.timestamp() + 60 * minute for minute in range(60)]
        ward.minutes(60, {"p1": []}, chart=["p1"], every=10)
        at = [ward.time.fromtimestamp(second, ward.time.tzinfo) for second in observed]
        row = {"subject_id": "p1", "signal": "heart_rate", "unit": None, "device_id": "logger", "source": "gateway-5"}
        ward.journal.append(
            lambda row=row, at=at: [row | {"value": 80.0, "observed_at": time, "message_id": str(time)} for time in at]
        )
        ward.rescore()
    assert ward.told() == []


def test_two_processes_tell_it_once(ward):
    ward.minutes(20, {"p1": MONITOR})
    first, second = ward.rescorer, ward.restart()
    assert isinstance(second, Rescorer)
    for _ in range(20):
        ward.wait(minutes=1)
        ward.send("p1", source="gateway-1", device="monitor-p1", heart_rate=80.0 + ward.messages % 2)
        ward.rescore()
        first._silences.step(first._now(), lambda: {"p1": "A", "p2": "A"})
    assert ward.told() == [("signal_stopped", "p1", "spo2")]
    assert first._silences._watch is not None  # it did not fail


def test_a_declaration_names_it_before_anything_is_learned(ward):
    (ward.home / "sources.toml").write_text("[sources.gateway-1]\nstopped_after_minutes = { spo2 = 3 }\n")
    ward.restart()
    ward.minutes(2, {"p1": MONITOR})
    ward.minutes(6, {"p1": ["heart_rate"]})
    assert ward.told() == [("signal_stopped", "p1", "spo2")]


def test_after_a_day_a_stopped_signal_is_not_expected_any_more(ward):
    ward.minutes(20, {"p1": MONITOR})
    ward.minutes(15, {"p1": ["heart_rate"]})
    for _ in range(100):
        ward.wait(minutes=14)
        ward.minutes(1, {"p1": ["heart_rate"]})
    assert ward.told() == [("signal_stopped", "p1", "spo2")]
    assert ward.ward_state.silences.open() == []


def test_metrics_count_what_has_stopped_and_name_nobody(ward):
    ward.minutes(20, {"p1": MONITOR})
    ward.minutes(15, {"p1": ["heart_rate"]})
    page = ward.rescorer._metrics
    page.store(ward.home)
    text = (ward.home / f"{page.process}.prom").read_text()
    assert 'vigil_stopped_signals{signal="spo2"} 1.0' in text
    assert 'vigil_silences_total{event="signal_stopped"} 1.0' in text
    assert "vigil_silent_sources 0.0" in text
    assert "p1" not in text
    assert "gateway" not in text


def report(ward, status, device=None, wards=None, source="gateway-1"):
    ward.wait(seconds=1)
    ward.ward_state.silences.report(DeviceReport(source, device, wards, status, ward.now), by="gateway")


def test_a_disconnected_device_stops_its_signals_at_once_until_it_is_connected(ward):
    ward.minutes(20, {"p1": MONITOR, "p2": MONITOR})
    ward.wait(seconds=10)
    report(ward, "disconnected", "monitor-p1")
    ward.rescore()
    told = [("signal_stopped", "p1", signal) for signal in MONITOR]
    assert ward.told() == told
    ward.minutes(10, {"p2": MONITOR})
    assert ward.told() == told
    ward.wait(seconds=10)
    report(ward, "connected", "monitor-p1")
    ward.rescore()
    assert sorted(ward.told("signal_returned")) == [("signal_returned", "p1", signal) for signal in MONITOR]
    ward.minutes(4, {"p2": MONITOR})
    assert len(ward.told()) == 4  # what it has to send gets the time that it usually takes
    assert ward.ward_state.silences.reports() == []


def test_an_observation_of_a_disconnected_device_ends_that(ward):
    ward.minutes(20, {"p1": MONITOR})
    report(ward, "disconnected", "monitor-p1")
    ward.wait(seconds=10)
    ward.rescore()
    ward.minutes(3, {"p1": MONITOR})
    assert [kind for kind, *_ in ward.told()] == ["signal_stopped"] * 2 + ["signal_returned"] * 2
    assert ward.ward_state.silences.reports() == []


def test_a_signal_that_another_device_sends_too_has_not_stopped(ward):
    for _ in range(20):
        ward.minutes(1, {"p1": MONITOR})
        ward.send("p1", source="gateway-3", device="patch", heart_rate=82.0 + ward.messages % 2)
    report(ward, "disconnected", "monitor-p1")
    ward.wait(seconds=10)
    ward.rescore()
    assert ward.told() == [("signal_stopped", "p1", "spo2")]


def test_a_disconnected_gateway_is_one_event_even_of_one_patient(ward):
    ward.minutes(20, {"p1": MONITOR})
    report(ward, "disconnected")
    ward.minutes(30, {}, chart=["p1"])
    assert ward.told() == [("source_silent", None, "gateway-1")]
    ward.minutes(2, {"p1": MONITOR}, chart=["p1"])
    assert ward.told()[1:] == [("source_returned", None, "gateway-1")]


def test_a_report_speaks_for_the_wards_of_its_caller_only(ward):
    ward.register("p2", ward="B")
    ward.minutes(20, {"p1": MONITOR, "p2": MONITOR})
    report(ward, "disconnected", wards=("B",))
    report(ward, "disconnected", source="another", wards=("A",))
    ward.wait(seconds=10)
    ward.rescore()
    assert [(row["kind"], row["ward"]) for row in ward.rows(EVENTS) if row["kind"] in SILENCE_KINDS] == [("source_silent", "B")]


def test_what_is_open_of_a_merged_patient_ends_and_the_survivor_is_watched(ward):
    ward.minutes(20, {"p1": MONITOR, "p2": ["heart_rate"]})
    ward.minutes(15, {"p1": ["heart_rate"], "p2": ["heart_rate"]})
    assert ward.told() == [("signal_stopped", "p1", "spo2")]
    ward.journal.merge("p1", "p2")
    ward.minutes(4, {"p1": ["heart_rate"]})
    assert ward.told("signal_returned") == []
    assert ward.told()[1:] == [("signal_stopped", "p2", "spo2")]  # what is known of p1 counts for p2 now
    assert [row["subject_id"] for row in ward.silences() if row["resolved_at"] is None] == ["p2"]


def test_a_failure_of_the_watch_stops_no_risk_and_is_tried_again(ward, monkeypatch, caplog):
    ward.minutes(20, {"p1": MONITOR})
    with monkeypatch.context() as broken:
        broken.setattr(ward.ward_state.silences, "open", lambda: 1 / 0)
        ward.minutes(2, {"p1": ["heart_rate"]})
        assert ward.rows(RISKS, "index_time")[0]["index_time"] == ward.now
    assert "signals are not watched: ZeroDivisionError" in caplog.text
    ward.minutes(12, {"p1": ["heart_rate"]})
    assert ward.told() == [("signal_stopped", "p1", "spo2")]
