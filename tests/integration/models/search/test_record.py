"""The record of a search survives a process that is killed, and a search of the same things continues from it."""

import signal
import subprocess
import sys

from tests.support import ROOT
from vigil.models.registry import Registry
from vigil.models.search.record import SearchRecord
from vigil.models.search.searchers import Trial

KILLED = """
import os, signal, sys
from pathlib import Path
from tests.integration.models.search.test_record import opened
from vigil.models.registry import Registry
from vigil.models.search.searchers import Trial

with opened(Registry(Path(sys.argv[1]))) as record:
    for number, state in enumerate(("complete", "pruned", "running")):
        trial = Trial({"num_leaves": 8 + number, "subsample": 0.1 + 0.2})
        update = record.begin_trial("optuna", number + 1, trial)
        for fold in range(2):
            trial.losses.append(0.5 - fold / 10)
            trial.seconds = 1.5 * fold
            if fold == 1:
                trial.state = state
            update(trial)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def opened(registry, *, data="d1", what=None, anew=False):
    return SearchRecord.open(registry, "deterioration", ("ward", data), what or {"seed": 1}, anew=anew)


def test_killed_search_continues_with_the_trials_that_had_ended(tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    registry = Registry(tmp_path)
    with opened(registry) as record:
        parameters = [{"num_leaves": 8, "subsample": 0.1 + 0.2}, {"num_leaves": 9, "subsample": 0.1 + 0.2}]  # bit for bit
        assert record.trials("optuna") == [
            Trial(parameters[0], [0.5, 0.4], "complete", 1.5),
            Trial(parameters[1], [0.5, 0.4], "pruned", 1.5),
        ]
        assert record.trials("flaml") == []
        first = record.run_id
    search, *trials = registry.store.find_runs("deterioration", {})
    assert (search.info.run_id, search.info.status) == (first, "FINISHED")
    assert [run.info.status for run in trials] == ["FINISHED", "KILLED", "FAILED"]  # none is shown as under way
    assert [run.info.run_name for run in trials] == [f"trial {number}, optuna" for number in (1, 2, 3)]
    assert search.info.run_name.startswith("deterioration, ward, ")
    assert search.info.run_name.endswith(", search")
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {first}
    others = [opened(registry, data="d2"), opened(registry, what={"seed": 2}), opened(registry, anew=True)]
    for other in others:
        with other as record:
            assert record.run_id != first
            assert record.trials("optuna") == []
    with opened(registry) as record:  # the latest search of these things
        assert record.run_id not in {first, None}
        assert record.trials("optuna") == []
