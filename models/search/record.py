"""The record of a search: a run of MLflow, with a nested run for each trial. A search continues from it.

A trial is written as it goes, in the process that fits it, so a search that is killed loses the trial under way and no other.
MLflow's own storage for Optuna writes in the background and drops what it cannot write, and knows one process-wide database.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from vigil.models.registry import Registry
from vigil.models.search.searchers import State, Trial

_KEY: Final = "search"  # tag of a search: what is searched, in which data
_SEARCHER: Final = "searcher"  # tag of a trial
_SECONDS: Final = "seconds"
_LOSS: Final = "log_loss"  # metric of a trial, a step for each fold
_STATUS: Final[dict[State, str]] = {"complete": "FINISHED", "pruned": "KILLED", "interrupted": "FAILED"}  # of MLflow
_STATES: Final[dict[str, State]] = {status: state for state, status in _STATUS.items() if state != "interrupted"}


@dataclass(frozen=True)
class SearchRecord:
    """A search in the registry of a home.

    Attributes:
        registry: of the home.
        task: name of the experiment.
        run_id: of the search.
    """

    registry: Registry
    task: str
    run_id: str

    @classmethod
    @contextlib.contextmanager
    def open(
        cls, registry: Registry, task: str, dataset: tuple[str, str], what: dict[str, Any], *, anew: bool
    ) -> Iterator["SearchRecord"]:
        """Continue the latest search of the same things in the same data, or begin one; it is the active run in the block.

        Args:
            registry: of the home.
            task: name of the experiment.
            dataset: name and digest of the training data.
            what: is searched: feature service, variant, seed, folds and space.
            anew: begin a search even if there is one to continue.
        """
        text = json.dumps([dataset[1], what], sort_keys=True, default=vars)
        key = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        former = [] if anew else registry.store.find_runs(task, {_KEY: key})
        with registry.run(task, former[-1].info.run_id if former else None, dataset, "search") as run_id:
            registry.log(tags={_KEY: key})
            record = cls(registry, task, run_id)
            record._end_interrupted()
            yield record

    def _end_interrupted(self) -> None:
        """Mark trials that a killed process left running, so that no page shows them as under way."""
        for run in self.registry.store.list_nested(self.run_id):
            if run.info.status == "RUNNING":
                self.registry.store.end_run(run.info.run_id, _STATUS["interrupted"])

    def trials(self, searcher: str) -> list[Trial]:
        """Return the trials of a searcher that came to their end, in order."""
        store, ended = self.registry.store, []
        for run in store.list_nested(self.run_id):
            if run.data.tags.get(_SEARCHER) == searcher and run.info.status in _STATES:
                history = sorted(store.client.get_metric_history(run.info.run_id, _LOSS), key=lambda metric: metric.step)
                ended.append(
                    Trial(
                        {name: json.loads(value) for name, value in run.data.params.items()},
                        [metric.value for metric in history],
                        _STATES[run.info.status],
                        run.data.metrics[_SECONDS],
                    )
                )
        return ended

    def begin_trial(self, searcher: str, number: int, trial: Trial) -> Callable[[Trial], None]:
        """Write a trial that begins; return what writes its next fold, or its end."""
        store = self.registry.store
        run_id = self.registry.create_run(
            self.task, f"trial {number}", searcher, parent=self.run_id, tags={_SEARCHER: searcher}
        )
        store.log_values(run_id, {name: json.dumps(value) for name, value in trial.parameters.items()}, {}, {})
        written = 0

        def update(trial: Trial) -> None:
            nonlocal written
            for fold in range(written, len(trial.losses)):
                store.log_step(run_id, _LOSS, trial.losses[fold], fold + 1)
            written = len(trial.losses)
            if trial.state != "running":
                store.log_values(run_id, {}, {_SECONDS: trial.seconds}, {})
                store.end_run(run_id, _STATUS[trial.state])

        return update
