"""The main job: ingest, features, Feast, train, evaluate, register, materialize, predict, drift report."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Final

from features.errors import VigilError
from models.tasks import TASKS
from pipelines.cohort_store import CohortStore, Facts
from pipelines.drift.assessment import Drift
from pipelines.drift.job import drift
from pipelines.jobs.build_features import build, materialize
from pipelines.jobs.evaluate import Metrics, evaluate
from pipelines.jobs.ingest import ingest
from pipelines.jobs.predict import predict_held_out, predict_over_http
from pipelines.jobs.train import Trained, train
from pipelines.operations.server import ServerError
from pipelines.progress import CONSOLE
from pipelines.sources import Source, SourceError
from serving.composition import open_scorer
from serving.settings import Settings

FILE: Final = "run.json"  # in the home, while a run is not finished


class NoChampionError(VigilError):
    """The first version was refused, so there is no model to predict with."""


@dataclass(frozen=True)
class Outcome:
    """Everything the main job made, for the table at its end and for programs.

    Attributes:
        prediction: of the sickest held-out patient, over HTTP; None: the server could not be asked.
        problem: why not.
    """

    facts: Facts
    index_times: int
    trained: Trained
    metrics: Metrics
    prediction: dict[str, Any] | None
    drift: Drift
    problem: str | None = None


class Steps:
    """The steps of a run, each done once: a run that was cut off goes on where it stopped.

    What a step found is kept in ``HOME/run.json`` until the run is finished. It counts for the same source, the same version of
    Vigil and the cohort as that run left it.
    """

    def __init__(self, home: Path, source: Source) -> None:
        """Begin, or go on with what is there."""
        self._path, self._cohort = home / FILE, CohortStore(home)
        settings = {name: value for name, value in vars(source).items() if isinstance(value, int | str | float)}
        self._of = {"source": source.name, "version": installed("vigil"), "data": str(getattr(source, "data", "")), **settings}
        self._done: dict[str, Any] = {}
        try:
            kept = json.loads(self._path.read_text())
            if kept["of"] == self._of and kept["cohort"] == self._ingested():
                self._done = kept["done"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # there is none, or none that can be used

    def do(self, name: str, work: Callable[[], Any]) -> Any:
        """Do a step, unless it was done; returns what it found, as JSON has it."""
        if name in self._done:
            CONSOLE.print(f"  {name}: done before the run was cut off")
            return self._done[name]
        self._done[name] = json.loads(json.dumps(work(), default=float))
        unfinished = self._path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps({"of": self._of, "cohort": self._ingested(), "done": self._done}))
        unfinished.replace(self._path)
        return self._done[name]

    def finish(self) -> None:
        """The next run begins anew."""
        self._path.unlink(missing_ok=True)

    def _ingested(self) -> float | None:
        return self._cohort.ingested_at if (self._cohort.folder / "cohort.json").exists() else None


def run(source: Source, home: Path, *, replace: bool = False) -> Outcome:
    """Run the whole chain on a source, or go on with a run that was cut off. Prediction and drift report are the champion's.

    Args:
        source: of the cohort.
        home: where everything lives.
        replace: also where the home holds the cohort of another source.

    Raises:
        NoChampionError: the first version did not pass the gates of behaviour; all up to the online store is done.
    """
    steps = Steps(home, source)
    steps.do("ingest", lambda: asdict(ingest(source, home, replace=replace)))
    facts = CohortStore(home).facts
    if not facts.observations:
        raise SourceError(
            f"{source.name}: no reading can be used ({facts.quarantined}); see vigil ingest, by signal and reason"
        )
    index_times: int = steps.do("features", lambda: build(home).index_times)
    trained = Trained(**steps.do("train", lambda: asdict(train(home))))
    metrics: Metrics = steps.do("evaluate", lambda: evaluate(home, trained.version))
    steps.do("materialize", lambda: materialize(home))
    if trained.refused is not None:
        steps.finish()
        raise NoChampionError(f"{trained.refused}; the run ends before its prediction and drift report")
    sickest: str = steps.do("predict", lambda: _sickest(home, facts.task))
    prediction, problem = None, None
    try:
        prediction = steps.do("one prediction over HTTP", lambda: predict_over_http(home, facts.task, sickest))
    except (ServerError, OSError) as error:  # all else is there to be shown
        problem = f"one prediction over HTTP: {error}; what is done is kept: vigil run --home {home} goes on from here"
    outcome = Outcome(facts, index_times, trained, metrics, prediction, drift(home), problem)
    if problem is None:
        steps.finish()
    return outcome


def _sickest(home: Path, task: str) -> str:
    """Predict for every held-out patient; the pseudonym of the one of highest risk."""
    answers = predict_held_out(home, open_scorer(Settings(home=home, task=TASKS[task].name)))
    if not answers:
        raise VigilError(
            f"nobody has a risk of the model {task}: the champion is withdrawn, or nobody has a recent reading; if the "
            "cause is gone: vigil reinstate --because TEXT"
        )
    return max(answers, key=lambda answer: answer.probability or 0.0).patient_id
