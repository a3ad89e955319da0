"""``import vigil``: frames in and frames out, of the kind that was given, and the same results as the commands."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import vigil
from tests.support.tables import write_german_cohort
from vigil.models.cohort import split_of
from vigil.notebook_views import EvaluationTable
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.score_readings import score_readings
from vigil.pipelines.jobs.train import read_labelled_index
from vigil.pipelines.sources.simulated import SimulatedWard

ROWS = {
    "subject_id": ["a"] * 4 + ["b"] * 4,
    "observed_at": ["2026-03-05T08:00:00Z"] * 8,
    "signal": ["heart_rate", "respiratory_rate", "spo2", "systolic_bp"] * 2,
    "value": [80.0, 16.0, 97.0, 125.0, 131.0, 26.0, 88.0, 88.0],
    "age": [70.0] * 8,
}
KINDS = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "arrow": pa.table}


def to_pandas(frame):
    return frame if isinstance(frame, pd.DataFrame) else frame.to_pandas()


@pytest.mark.parametrize("kind", KINDS)
def test_news2_of_any_frame(kind):
    make = KINDS[kind]
    scored = vigil.news2(make({"spo2": [97, 91, None], "respiratory_rate": [16, 25, None], "name": ["a", "b", "c"]}))
    assert isinstance(scored, type(make({"a": [1]})))
    rows = to_pandas(scored)
    assert rows["news2"].tolist() == [0, 6, 0]
    assert rows["news2_highest"].tolist() == [14, 20, 20]
    assert rows["name"].tolist() == ["a", "b", "c"]


def test_news2_without_a_component_says_what_is_expected():
    with pytest.raises(vigil.VigilError, match="no component of NEWS2; expected some of respiratory_rate.*got pulse"):
        vigil.news2(pd.DataFrame({"pulse": [80]}))


@pytest.mark.parametrize("kind", KINDS)
def test_features_of_any_frame(kind):
    built = to_pandas(vigil.features(KINDS[kind](ROWS)))
    assert built["subject_id"].tolist() == ["a", "b"]
    assert built["heart_rate_mean_1h"].tolist() == [80.0, 131.0]
    assert built["age"].tolist() == [70.0, 70.0]
    with pytest.raises(vigil.VigilError, match="no such feature service; expected one of"):
        vigil.features(KINDS[kind](ROWS), service="mine")


@pytest.mark.parametrize("kind", KINDS)
def test_the_champion_answers_as_the_command_does(home, kind):
    champion = vigil.Home(home).champion()
    risks = to_pandas(champion.predict(KINDS[kind](ROWS)))
    expected, _ = score_readings(champion.home.inner, pd.DataFrame(ROWS), "deterioration")
    assert risks["probability"].tolist() == expected["probability"].tolist()
    assert risks["news2"].tolist() == expected["news2"].tolist()
    explained = to_pandas(champion.explain(KINDS[kind](ROWS)))
    assert set(explained["subject_id"]) <= {"a", "b"}


def test_fifteen_lines_from_tables_to_an_evaluated_model(tmp_path, few_trees):  # noqa: ARG001
    mapping, _ = write_german_cohort(tmp_path / "ward", 90)

    cohort = vigil.read_cohort(mapping)
    page = cohort._repr_html_()
    home = vigil.Home(tmp_path / "home")
    facts = home.ingest(cohort)
    trained = home.train(only="all_signals")
    metrics = home.evaluate(trained.version)

    assert "station-b4: " in page
    assert "body_temperature" in page
    assert facts["task"] == "deterioration"
    assert trained.version == "1"
    assert metrics.loc["all_signals", "auroc_low"] < metrics.loc["all_signals", "auroc"]
    assert home.report.exists()
    assert cohort.observations["signal"].nunique() == 6
    assert set(cohort.outcomes["subject_id"]) <= set(cohort.stays["subject_id"])


def test_fairness_is_a_row_a_group_by_columns_of_stays_and_by_attributes_that_are_brought(home):
    own = vigil.Home(home)
    payer = pd.DataFrame({"subject_id": [f"sim-{n:06}" for n in range(4_000)], "payer": ["public", "private"] * 2_000})
    groups = own.fairness(by=["sex", "payer"], attributes=payer)
    assert groups["by"].unique().tolist() == ["sex", "payer"]
    sizes = groups.groupby("by")["patients"].sum()
    assert sizes["sex"] == sizes["payer"]  # every held-out patient is in one group of each
    assert {"female", "male", "public", "private"} == set(groups["group"])
    defined = groups["true_positive_rate"].notna()
    assert groups.loc[defined, "true_positive_rate_low"].le(groups.loc[defined, "true_positive_rate"]).all()
    assert len(vigil.plots.fairness(groups).axes) == 4
    points = own.group_calibration(by=["sex"])
    assert set(points["group"]) == set(groups.loc[(groups["by"] == "sex") & groups["enough"], "group"])
    if points.empty:
        with pytest.raises(vigil.VigilError, match="no group is large enough to judge"):
            vigil.plots.calibration(points)
    else:
        assert vigil.plots.calibration(points).axes


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"subject_id": ["sim-000001"] * 2, "payer": ["a", "b"]}, "1 names again; expected one row for each"),
        ({"subject_id": ["nobody"], "payer": ["a"]}, "none is of a stay of this home"),
        ({"subject_id": ["sim-000001"], "sex": ["f"]}, "sex: the stays have that already"),
        ({"name": ["sim-000001"], "payer": ["a"]}, "expected subject_id and others"),
    ],
)
def test_attributes_that_cannot_be_joined_are_refused(home, attributes, message):
    with pytest.raises(vigil.VigilError, match=message):
        vigil.Home(home).fairness(attributes=pd.DataFrame(attributes))


def test_pictures_are_figures_of_the_champions_contributions(home):
    champion = vigil.Home(home).champion()
    swarm = vigil.plots.beeswarm(champion, pl.DataFrame(ROWS), number=3)
    assert len(swarm.axes[0].get_yticklabels()) == 3
    features = vigil.plots.beeswarm(champion, by="feature", number=4)  # of held-out hours
    assert len(features.axes[0].get_yticklabels()) == 4
    waterfall = vigil.plots.waterfall(champion, pd.DataFrame(ROWS), "b")
    risk = champion.predict(pd.DataFrame(ROWS)).set_index("subject_id")["probability"]["b"]
    assert waterfall.axes[0].get_title(loc="left").endswith(f"to this one, {100 * risk:.1f} %")
    assert vigil.plots.dependence(champion).axes
    with pytest.raises(vigil.VigilError, match="the readings are of 2; expected one"):
        vigil.plots.waterfall(champion, pd.DataFrame(ROWS))
    with pytest.raises(vigil.VigilError, match="too few patients with a value"):
        vigil.plots.dependence(champion, pd.DataFrame(ROWS))


def test_what_is_no_cohort_is_refused(tmp_path):
    with pytest.raises(vigil.VigilError, match="cannot be read"):
        vigil.read_cohort(tmp_path / "cohort.toml")
    with pytest.raises(vigil.VigilError, match="--data is missing"):
        vigil.read_cohort("cinc2019")


def test_risks_of_the_held_out_patients_are_those_of_the_evaluation(home):
    model = vigil.Home(home).champion()
    risks = model.risks()
    inner = model.home.inner
    frame = inner.features.read_training_frame(read_labelled_index(inner.cohort, "held_out"), "vital_signs_v3")
    assert {split_of(subject) for subject in risks["subject_id"]} == {"held_out"}
    assert risks["probability"].tolist() == inner.registry.load("deterioration").model.risk(frame).tolist()
    assert {"label", "start", "end", "unit", "age", "sex", "news2", "net_score", "net_spot"} <= set(risks)
    assert 0 < model.alarm_threshold < 1

    last = risks.groupby("subject_id").tail(1).iloc[0]
    readings = model.home.observations([last["subject_id"]])
    known = readings[readings["recorded_at"] <= last["index_time"]]
    assert model.predict(known)["probability"][0] == pytest.approx(last["probability"], abs=0.02)  # as of their last reading
    assert model.chart(last["subject_id"]).axes[0].get_ylabel() == "risk"


def test_risks_of_another_cohort_are_those_of_its_index_times(home, few_stays):
    risks = vigil.Home(home).champion().risks(few_stays)
    assert set(risks["subject_id"]) == set(few_stays.stays["subject_id"])
    own = risks[risks["subject_id"] == few_stays.outcomes["subject_id"].iloc[0]]
    assert own["label"].max() == 1
    assert few_stays.observations.groupby("signal", observed=True)["unit"].nunique().max() == 1


@pytest.fixture(scope="module")
def few_stays():
    return vigil.Cohort(SimulatedWard(patients=24, seed=5))


def test_homes_models_and_evaluations_show_themselves(home, tmp_path):
    page = vigil.Home(home)._repr_html_()
    assert f"{Home(home).cohort.facts.subjects:,} stays" in page
    assert "no clinical evidence" in page
    assert "champion" in page
    assert "No cohort yet" in vigil.Home(tmp_path)._repr_html_()
    assert "deterioration of any kind" in vigil.Home(home).champion()._repr_html_()
    assert "the answers are NEWS2" in vigil.Home(tmp_path).champion()._repr_html_()
    assert not list(tmp_path.iterdir())  # looking makes nothing


def test_evaluation_shows_intervals_first_and_stays_a_frame():
    figures = {"patients": 40.0, "events": 9.0, "prevalence": 0.05, "auroc": 0.871, "auroc_low": 0.8, "auroc_high": 0.9}
    table = EvaluationTable(pd.DataFrame({"<b>": figures, "news2": figures | {"auroc": np.nan}}).T)
    page = table._repr_html_()
    assert "40 held-out patients, 9 with the event; prevalence 0.050" in page
    assert "<td>&lt;b&gt;</td><td>0.871 (0.800 to 0.900)</td>" in page
    assert "<td>news2</td><td>-</td>" in page
    assert table.loc["news2", "patients"] == 40
    assert "<table" in table[["auroc"]]._repr_html_()


@pytest.mark.parametrize("kind", KINDS)
def test_time_in_range_and_profile_of_any_frame(kind):
    times = pd.date_range("2026-03-05T08:00", periods=4, freq="5min", tz="UTC").strftime("%Y-%m-%dT%H:%M:%SZ").tolist()
    frame = KINDS[kind](
        {"subject_id": ["a"] * 4, "observed_at": times, "signal": ["glucose"] * 4, "value": [3.5, 6.0, 6.0, 12.0]}
    )
    ranges = vigil.time_in_range(frame, unit="mmol/L")
    profile = vigil.glucose_profile(frame, unit="mmol/L", time_zone="Europe/Berlin")
    assert isinstance(ranges, type(frame))
    assert isinstance(profile, type(frame))
    assert to_pandas(ranges)[["low", "in_range", "high"]].to_numpy().tolist() == [[25.0, 50.0, 25.0]]
    bins = to_pandas(profile)
    assert bins[bins["readings"] > 0][["minute", "median"]].round(1).to_numpy().tolist() == [[540, 6.0], [555, 12.0]]
