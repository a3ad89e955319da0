"""Another package, as pip would install it: a folder of its own on the path, with modules and entry points."""

import os
import subprocess
import sys
from textwrap import dedent

from tests.support import ROOT
from vigil.features.catalogue import SERVICES
from vigil.features.services import store_service

SIGNALS = """
    from fractions import Fraction
    from vigil.features.signal import AddedSignal, Signal

    CRP = AddedSignal(
        Signal("crp", "laboratory", "1988-5", "mg/L", 0.1, 700, 3, steps_per_unit=10), units={"mg/dL": Fraction(10)}
    )
"""
FEATURES = """
    from importlib.resources import files
    from vigil.features.added_features import AddedFeatures
    from vigil.features.derived import DerivedFeatures
    from vigil.features.windows import Feature, WindowFeature, declare_statistics

    LAST = WindowFeature("crp", "last", 24)
    RATIO = DerivedFeatures(
        (Feature("crp_per_year", "crp", "mg/L/a", "CRP divided by the age"),),
        lambda columns: {"crp_per_year": columns["crp_last_24h"] / columns["age"]},
        (LAST,),
    )
    MARKERS = AddedFeatures((LAST, *declare_statistics(["crp"], 24, "count", "age"), RATIO), files(__package__) / "services")
"""
WARD = """
    from dataclasses import replace
    import pandas as pd
    from vigil.models.tasks import TASKS
    from vigil.pipelines.sources import Batch, Source

    TASK = replace(TASKS["deterioration"], name="infection", outcome="infection", feature_service="markers_v1")
    START = pd.Timestamp("2026-01-31T08:00:00Z").as_unit("us")


    class Ward(Source):  # forty stays of six hours; CRP is high in every other one, which has the outcome
        name, task, simulated, deidentified = "markers", TASK, True, True

        def __len__(self):
            return 1

        def batches(self):
            stays = pd.DataFrame({"subject_id": [f"p{number:02}" for number in range(40)], "start": START})
            stays["end"] = START + pd.Timedelta(hours=6).as_unit("us")
            stays["unit_admitted_at"] = stays["hospital_admitted_at"] = START
            stays = stays.assign(age=60.0, sex=0.0, site="a", unit="a")
            times = pd.DataFrame({"observed_at": [START + pd.Timedelta(hours=hour).as_unit("us") for hour in range(6)]})
            rows = stays[["subject_id"]].reset_index(names="number").merge(times, how="cross")
            signals = {"heart_rate": 80.0, "respiratory_rate": 16.0, "spo2": 97.0, "systolic_bp": 120.0}
            parts = [rows.assign(signal=signal, value=value) for signal, value in signals.items()]
            parts.append(rows.assign(signal="crp", value=(rows["number"] % 2) * 80.0 + 5))
            observations = pd.concat(parts, ignore_index=True).drop(columns="number")
            outcomes = stays.loc[1::2, ["subject_id", "end"]].rename(columns={"end": "onset"})
            yield Batch(observations, stays, outcomes.assign(kind="infection", onset_known=True))


    def open_ward(data):
        return Ward()
"""
ENTRY_POINTS = {
    "vigil.signals": {"crp": "ward_markers.signals:CRP"},
    "vigil.features": {"markers": "ward_markers.features:MARKERS"},
    "vigil.tasks": {"infection": "ward_markers.ward:TASK"},
    "vigil.sources": {"markers": "ward_markers.ward:open_ward"},
}


def install(site, *, entry_points=ENTRY_POINTS, services=("markers_v1",), **modules):
    """Install the package ``ward-markers`` into a folder, and return it.

    Args:
        site: the folder.
        entry_points: by group and name.
        services: names of services with vital signs and markers.
        modules: contents of modules that differ.
    """
    package, information = site / "ward_markers", site / "ward_markers-1.0.dist-info"
    for folder in (package / "services", information):
        folder.mkdir(parents=True)
    contents = {"__init__": "", "signals": SIGNALS, "features": FEATURES, "ward": WARD, **modules}
    for name, content in contents.items():
        (package / f"{name}.py").write_text(dedent(content))
    for name in services:
        features = [*SERVICES["vital_signs_v3"], "crp_last_24h", "crp_per_year"]
        store_service(name, features, package / "services")
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: ward-markers\nVersion: 1.0\n")
    lines = [f"[{group}]\n" + "".join(f"{name} = {to}\n" for name, to in of.items()) for group, of in entry_points.items()]
    (information / "entry_points.txt").write_text("\n".join(lines))
    return site


def run_with(site, script, *arguments):
    """Run a script in a process of its own, in which the package is installed, and return the finished process."""
    path = os.pathsep.join([str(site), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-c", dedent(script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
