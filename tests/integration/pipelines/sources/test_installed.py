"""Another package adds a source, a task, a signal and features by entry points, and changes nothing here."""

import json

import pytest

from tests.support.other_package import ENTRY_POINTS, FEATURES, SIGNALS, install, run_with
from vigil.features.installed import FILE, PackageError, require_packages
from vigil.models.own_tasks import find_task
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.build_features import build
from vigil.pipelines.jobs.ingest import ingest
from vigil.pipelines.sources import SourceError, open_source
from vigil.pipelines.sources.simulated import SimulatedWard

TRAIN = """
    import json, sys
    from pathlib import Path
    import pandas as pd
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from vigil.features.catalogue import views_to_compute
    from vigil.features.codes import LOINC, resolve_codes
    from vigil.features.installed import versions
    from vigil.features.units import find_conversion
    from vigil.models.training.risk_model import RiskModel
    from vigil.pipelines.home import Home
    from vigil.pipelines.jobs.build_features import build, materialize
    from vigil.pipelines.jobs.ingest import ingest
    from vigil.pipelines.sources import open_source
    from vigil.serving.composition import open_risk_service
    from vigil.serving.settings import Settings

    before, home = Home(Path(sys.argv[1])), Home(Path(sys.argv[2]))
    ingest(open_source("markers", None), home)
    built, again = build(home), build(home)
    materialize(home)
    stays = home.cohort.read("stays")
    index = pd.DataFrame({"subject_id": stays["subject_id"], "index_time": stays["end"]})
    rows = home.features.read_training_frame(index, "markers_v1")
    label = rows["subject_id"].isin(home.cohort.read("outcomes")["subject_id"]).to_numpy(float)
    model = RiskModel(make_pipeline(SimpleImputer(), LogisticRegression()), ["age", "crp_last_24h"], folds=2)
    model.fit(rows, label, rows["subject_id"])
    model.thresholds_ = {"medium": 0.3, "high": 0.6}
    model.metadata_ = {"feature_service": "markers_v1", "simulated": True, "task": "infection", "index": "hourly"}
    with home.registry.run("infection") as run:
        home.registry.log_models({"logistic": model}, rows.head(5))
    home.registry.register(run, "logistic", "infection", {})
    home.record_use("services", ["markers_v1"])
    service = open_risk_service(Settings(home=home.path, task="infection"))
    reports = service.by_subject(list(rows["subject_id"]))
    former = build(before)
    print(json.dumps({
        "before": [former.reused, former.computed], "computed": [built.computed, again.computed],
        "crp": sorted(set(rows["crp_last_24h"])), "ratio": sorted(set(rows["crp_per_year"].astype(float))),
        "risks": [report.risk.probability for report in reports], "label": label.tolist(),
        "code": resolve_codes([(LOINC, "1988-5")]), "unit": find_conversion("crp", "mg/dl").convert(1.25, 10),
        "standard": "markers" in views_to_compute("vital_signs_v3"), "versions": versions(),
    }))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return install(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def trained(site, tmp_path_factory):
    """What a process with the package has made: (what it says, a home of before, its home)."""
    folder = tmp_path_factory.mktemp("homes")
    before = Home(folder / "before")
    ingest(SimulatedWard(patients=3), before)
    build(before)
    process = run_with(site, TRAIN, before.path, folder / "home")
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1]), before.path, folder / "home"


def test_its_signal_and_features_are_computed_stored_learned_from_and_served(trained):
    result, _, _ = trained
    assert result["crp"] == [5.0, 85.0]
    assert result["ratio"] == pytest.approx([5 / 60, 85 / 60], rel=1e-6)
    assert result["computed"] == [1, 0]
    risks = {
        label: [risk for risk, own in zip(result["risks"], result["label"], strict=True) if own == label] for label in (0, 1)
    }
    assert len(risks[0]) == len(risks[1]) == 20
    assert max(risks[0]) < min(risks[1])
    assert result["code"] == ["crp", ""]
    assert result["unit"] == 12.5
    assert result["versions"] == {"ward-markers": "1.0"}


def test_a_home_of_before_opens_and_none_of_its_features_changes(trained):
    result, before, _ = trained
    assert (result["before"], result["standard"]) == ([1, 0], False)
    assert not (before / FILE).exists()
    require_packages(before)


def test_a_home_that_used_it_names_the_missing_package(trained):
    _, _, home = trained
    uses = json.loads((home / FILE).read_text())
    assert uses == {
        "ward-markers": {
            "version": "1.0", "signals": ["crp"], "tasks": ["infection"], "features": ["markers"], "services": ["markers_v1"],
        }
    }  # fmt: skip
    says = (
        r"uses signals crp; .*services markers_v1; tasks infection of the package ward-markers 1.0, .*pip install ward-markers"
    )
    for part in ("cohort", "features", "registry"):
        with pytest.raises(PackageError, match=says):
            getattr(Home(home), part)


def test_features_are_computed_again_when_the_package_changes(site, trained):
    _, _, home = trained
    script = "import sys; from pathlib import Path; from vigil.pipelines.home import Home\n"
    script += "from vigil.pipelines.jobs.build_features import build; print(build(Home(Path(sys.argv[1]))).computed)"
    module = site / "ward_markers" / "features.py"
    module.write_text(module.read_text() + "\n# another line\n")
    process = run_with(site, script, home)
    assert process.stdout.split()[-1:] == ["1"], process.stderr


BROKEN = {
    "signal": (
        {"signals": SIGNALS.replace('"crp"', '"lactate"')},
        {"vigil.signals": {"lactate": "ward_markers.signals:CRP"}},
        "signal lactate of an installed package: Vigil has a signal of this name",
    ),
    "code": (
        {"signals": SIGNALS.replace("1988-5", "2524-7")},
        {},
        "signal crp of an installed package: 2524-7 of http://loinc.org means lactate already",
    ),
    "view": ({}, {"vigil.features": {"scores": "ward_markers.features:MARKERS"}}, "ward-markers 1.0: vigil.features scores"),
    "feature": (
        {"features": FEATURES.replace("crp_per_year", "news2")},
        {},
        "view markers of an installed package: features news2: another view has them",
    ),
    "kind": (
        {},
        {"vigil.signals": {"crp": "ward_markers.signals:Signal"}},
        "crp = ward_markers.signals:Signal: is type; expected vigil.features.signal.AddedSignal",
    ),
    "import": (
        {"features": "from vigil.features.catalogue import VIEWS\n" + FEATURES.replace("\n    ", "\n")},
        {},
        "markers = ward_markers.features:MARKERS: cannot be loaded",
    ),
    "service": ({}, {}, "feature service vital_signs_v3 of an installed package (view markers): is taken"),
    "task": ({}, {"vigil.tasks": {"sepsis": "ward_markers.ward:TASK"}}, "vigil.tasks sepsis: Vigil has one of this name"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_what_takes_a_name_of_vigil_or_cannot_be_used_is_refused(broken, tmp_path):
    modules, entry_points, says = BROKEN[broken]
    services = ("vital_signs_v3",) if broken == "service" else ("markers_v1",)
    install(tmp_path, entry_points={**ENTRY_POINTS, **entry_points}, services=services, **modules)
    script = "import vigil.features.codes, vigil.features.catalogue\nfrom pathlib import Path\n"
    script += "from vigil.models.own_tasks import find_task; find_task('sepsis', Path('home'))"
    process = run_with(tmp_path, script)
    assert "PackageError: " in process.stderr
    assert says in process.stderr.splitlines()[-1]
    assert "correct the package, or remove it" in process.stderr


def test_its_source_and_task_need_no_other_process(tmp_path, monkeypatch):
    """They are found when they are asked for, also in a process that runs already."""
    other = install(tmp_path / "site", entry_points={group: ENTRY_POINTS[group] for group in ("vigil.tasks", "vigil.sources")})
    monkeypatch.syspath_prepend(other)
    assert find_task("infection", tmp_path).horizon.total_seconds() == 12 * 3600
    assert open_source("markers", None).name == "markers"
    with pytest.raises(SourceError, match="no such source; choose one of simulated, .*table, markers"):
        open_source("other", None)
