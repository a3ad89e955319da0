"""The main job: ingest, features, Feast, training, evaluation, registration, online store, prediction and drift report."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version as installed
from typing import Any, Final

from vigil.features.errors import VigilError
from vigil.pipelines.cohort_store import CohortFacts
from vigil.pipelines.drift.job import DriftRun, run_drift
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.build_features import build, materialize
from vigil.pipelines.jobs.evaluate import Metrics, evaluate
from vigil.pipelines.jobs.ingest import ingest
from vigil.pipelines.jobs.predict import predict_held_out, predict_over_http
from vigil.pipelines.jobs.train import Trained, train
from vigil.pipelines.operations.server import ServerError
from vigil.pipelines.progress import CONSOLE
from vigil.pipelines.sources import Source, SourceError
from vigil.serving.composition import open_risk_service
from vigil.serving.settings import Settings

FILE: Final = "run.json"  # in the home, until a run is finished


class NoChampionError(VigilError):
    """A run whose first version was refused, so that no model can predict."""


@dataclass(frozen=True)
class RunResult:
    """Results of the main job, for the table at its end and for programs.

    Attributes:
        facts: of the cohort.
        index_times: number of feature rows.
        trained: the registered version.
        metrics: model -> metric -> value on held-out patients.
        prediction: of the held-out patient at highest risk, over HTTP; None: the server did not answer, or the home has no
            identifiers.
        drift: the drift report.
        problem: why there is no prediction; None: there is one.
    """

    facts: CohortFacts
    index_times: int
    trained: Trained
    metrics: Metrics
    prediction: dict[str, Any] | None
    drift: DriftRun
    problem: str | None = None


class ResumableSteps:
    """The steps of a run, each done once, so that an interrupted run continues where it stopped.

    ``HOME/run.json`` holds the result of each step until the run is finished. It counts only for the same source, the same
    version of Vigil and the cohort as that run left it.
    """

    def __init__(self, home: Home, source: Source) -> None:
        self._path, self._cohort = home.path / FILE, home.cohort
        settings = {name: value for name, value in vars(source).items() if isinstance(value, int | str | float)}
        self._run = {"source": source.name, "version": installed("vigil"), "data": str(getattr(source, "data", "")), **settings}
        self._results: dict[str, Any] = {}
        try:
            former = json.loads(self._path.read_text())
            if former["of"] == self._run and former["cohort"] == self._ingested_at():
                self._results = former["done"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # no former run, or a file that cannot be used

    def do(self, name: str, work: Callable[[], Any]) -> Any:
        """Do a step, unless it is done already; return its result as JSON holds it."""
        if name in self._results:
            CONSOLE.print(f"  {name}: done before the run was interrupted")
            return self._results[name]
        self._results[name] = json.loads(json.dumps(work(), default=float))
        unfinished = self._path.with_suffix(".unfinished")
        unfinished.write_text(json.dumps({"of": self._run, "cohort": self._ingested_at(), "done": self._results}))
        unfinished.replace(self._path)
        return self._results[name]

    def finish(self) -> None:
        """Forget the results, so that the next run does every step."""
        self._path.unlink(missing_ok=True)

    def _ingested_at(self) -> float | None:
        return self._cohort.ingested_at if self._cohort.is_finished else None


def run(source: Source, home: Home, *, replace: bool = False) -> RunResult:
    """Run the whole chain on a source, or continue a run that was interrupted. Prediction and drift report use the champion.

    Args:
        source: of the cohort.
        home: made if it does not exist.
        replace: also replace the cohort of another source.

    Raises:
        SourceError: no reading of the source can be used.
        NoChampionError: the first version failed a gate of behaviour; all steps up to the online store are done.
    """
    steps = ResumableSteps(home, source)
    steps.do("ingest", lambda: asdict(ingest(source, home, replace=replace)))
    facts = home.cohort.facts
    if not facts.observations:
        raise SourceError(
            f"{source.name}: no reading can be used ({facts.quarantined}); expected units and names as in docs/features.md; "
            "for the counts by signal and reason: vigil ingest"
        )
    index_times: int = steps.do("features", lambda: build(home).index_times)
    trained = Trained(**steps.do("train", lambda: asdict(train(home))))
    metrics: Metrics = steps.do("evaluate", lambda: evaluate(home, trained.version))
    steps.do("materialize", lambda: materialize(home))
    if trained.refused is not None:
        steps.finish()
        raise NoChampionError(f"{trained.refused}; the run ends before its prediction and drift report")
    subject_id: str = steps.do("predict", lambda: _predict_held_out(home, facts.task))
    prediction, problem = None, None
    try:
        prediction = steps.do("one prediction over HTTP", lambda: predict_over_http(home, facts.task, subject_id))
    except (ServerError, OSError) as error:  # the other results can still be shown
        problem = (
            f"one prediction over HTTP: {error}; what is done is kept; to continue from here: vigil run --home {home.path}"
        )
    result = RunResult(facts, index_times, trained, metrics, prediction, run_drift(home), problem)
    if problem is None:
        steps.finish()
    return result


def _predict_held_out(home: Home, task: str) -> str:
    """Predict for every held-out patient; return the subject key of the one at highest risk."""
    reports = predict_held_out(home, open_risk_service(Settings(home=home.path, task=task)))
    if not reports:
        raise VigilError(
            f"no held-out patient has a risk of the model {task}: the champion is withdrawn, or no patient has a recent "
            "reading; if the model was withdrawn and the cause is gone: vigil reinstate --because TEXT"
        )
    return max(reports, key=lambda report: report.risk.probability or 0.0).risk.patient
