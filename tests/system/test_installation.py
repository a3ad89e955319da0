"""The distribution: one name, built outside the repository, and light where only features and scores are wanted."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import ROOT

ROOMS = ("features", "models", "serving", "pipelines")
BUILD = "import sys, setuptools.build_meta as backend; print(getattr(backend, sys.argv[1])(sys.argv[2]))"


def run(code, *arguments, path, check=True, cwd=None):
    """Run Python with a search path and nothing else of this environment's."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("VIGIL")}
    environment = {**kept, "PYTHONPATH": str(path), "NUMBA_DISABLE_JIT": "1"}  # compiling the kernel takes a minute
    command = [sys.executable, "-S", "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=check)


def build(source, kind, target):
    site = Path(distribution("setuptools").locate_file(""))
    written = run(BUILD, f"build_{kind}", target, path=site, cwd=source).stdout.split()[-1]
    return target / written


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that is built from the source distribution, as package indices and their users do."""
    folder = tmp_path_factory.mktemp("built")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, tracked.split("\0")):
        (folder / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / "clone" / name, follow_symlinks=False)
    sdist = build(folder / "clone", "sdist", folder)
    shutil.unpack_archive(sdist, folder, filter="data")
    return build(folder / sdist.name.removesuffix(".tar.gz"), "wheel", folder)


def needed(names):
    """The distributions that some requirements lead to, as pip would install them."""
    found, open_ = {}, [Requirement(name) for name in names]
    while open_:
        requirement = open_.pop()
        extras = requirement.extras or {""}
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        key = (canonicalize_name(requirement.name), frozenset(extras))
        if key in found:
            continue
        try:
            found[key] = distribution(requirement.name)
        except PackageNotFoundError:  # wanted by a marker of another platform
            continue
        for text in found[key].requires or ():
            child = Requirement(text)
            if child.marker is None or any(child.marker.evaluate({"extra": extra}) for extra in extras):
                child.marker = None
                open_.append(child)
    return {dist.name: dist for dist in found.values()}


@pytest.fixture(scope="module")
def light(wheel, tmp_path_factory):
    """A folder with the wheel, the libraries that its metadata ask for without an extra, and namesakes of our folders."""
    site = tmp_path_factory.mktemp("light")
    zipfile.ZipFile(wheel).extractall(site)
    for dist in needed(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]).values():
        for top in {Path(file).parts[0] for file in dist.files or () if ".." not in Path(file).parts}:
            if not (site / top).exists():
                (site / top).symlink_to(dist.locate_file(top))
    for room in ROOMS:
        (site / f"{room}.py").write_text("raise SystemExit('somebody else')")
    return site


def test_wheel_claims_the_name_vigil_alone_and_holds_every_file(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tracked = subprocess.run(["git", "ls-files", *ROOMS], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert {name.split("/")[0] for name in names} == {"vigil", next(n for n in names if "dist-info" in n).split("/")[0]}
    assert {f"vigil/{name}" for name in tracked} <= set(names)
    assert "vigil/py.typed" in names


SCORES = """
import sys
import pandas as pd
import vigil

vitals = pd.DataFrame({"respiratory_rate": [25], "spo2": [91], "heart_rate": [80]})
assert vigil.news2(vitals)["news2"].tolist() == [6.0]
readings = pd.DataFrame({"subject_id": "a", "observed_at": ["2026-01-01T00:00Z", "2026-01-01T01:00Z"], "signal": "heart_rate",
                         "value": [80, 90]})
assert vigil.features(readings)["heart_rate_mean_6h"].tolist() == [85.0]
assert vigil.draft_mapping(sys.argv[1]).text.startswith("#")
try:
    vigil.Home(sys.argv[2])
except vigil.VigilError as error:
    print(error)
print(sorted({name.split(".")[0] for name in sys.modules} & {"sklearn", "mlflow", "feast", "bentoml", "lightgbm"}))
"""


def test_scores_features_and_drafts_need_no_extra(light, tmp_path):
    table = tmp_path / "vitals.csv"
    table.write_text("stay,time,HR,SpO2\n1,2026-01-01 10:00,80,96\n1,2026-01-01 11:00,82,95\n")
    message, heavy = run(SCORES, table, tmp_path / "home", path=light, cwd=tmp_path).stdout.splitlines()
    assert message == (
        "mlflow is not installed; homes, models, the server and drift reports need more libraries: pip install 'vigil[service]'"
    )
    assert heavy == "[]"
    assert not (tmp_path / "home").exists()


COMMAND = "from vigil.pipelines.cli.main import app; app()"


def test_commands_without_an_extra_work_or_say_what_is_missing(light, tmp_path):
    assert "cohort" in run(COMMAND, "--help", path=light).stdout
    table = tmp_path / "vitals.csv"
    table.write_text("stay,time,HR,SpO2\n1,2026-01-01 10:00,80,96\n1,2026-01-01 11:00,82,95\n")
    mapping = tmp_path / "cohort.toml"
    assert run(COMMAND, "cohort", "draft", table, "--out", mapping, "--time-zone", "UTC", path=light).returncode == 0
    assert "heart_rate" in run(COMMAND, "cohort", "check", "--mapping", mapping, path=light).stdout
    refused = run(COMMAND, "run", "--home", tmp_path / "home", path=light, check=False)
    assert refused.returncode == 2
    assert "is not installed; this command needs more libraries: pip install 'vigil[service]'" in refused.stderr
