"""The main job: ingest, features, Feast, train, evaluate, register, materialize, predict, drift report."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.errors import VigilError
from models.tasks import TASKS
from pipelines.build import build, materialize
from pipelines.cohort_store import Facts
from pipelines.drift.job import drift
from pipelines.drift.judgement import Drift
from pipelines.evaluate import Metrics, evaluate
from pipelines.ingest import ingest
from pipelines.predict import predict_held_out, predict_over_http
from pipelines.sources import Source, SourceError
from pipelines.train import Trained, train
from serving.parts import open_scorer
from serving.settings import Settings


class NoChampionError(VigilError):
    """The first version was refused, so there is no model to predict with."""


@dataclass(frozen=True)
class Outcome:
    """Everything the main job made, for the table at its end and for programs."""

    facts: Facts
    index_times: int
    trained: Trained
    metrics: Metrics
    prediction: dict[str, Any]
    drift: Drift


def run(source: Source, home: Path, *, replace: bool = False) -> Outcome:
    """Run the whole chain on a source. The prediction and the drift report are the champion's.

    Raises:
        NoChampionError: the first version did not pass the gates of behaviour; all up to the online store is done.
    """
    facts = ingest(source, home, replace=replace)
    if not facts.observations:
        raise SourceError(
            f"{source.name}: no reading can be used ({facts.quarantined}); see vigil ingest, by signal and reason"
        )
    built = build(home)
    trained = train(home)
    metrics = evaluate(home, trained.version)
    materialize(home)
    if trained.refused is not None:
        raise NoChampionError(f"{trained.refused}; the run ends before its prediction and drift report")
    scorer = open_scorer(Settings(home=home, task=TASKS[facts.task].name))
    answers = predict_held_out(home, scorer)
    if not answers:
        raise VigilError(
            f"nobody has a risk of the model {facts.task}: the champion is withdrawn, or nobody has a recent reading; if the "
            "cause is gone: vigil reinstate --because TEXT"
        )
    sickest = max(answers, key=lambda answer: answer.probability or 0.0)
    prediction = predict_over_http(home, facts.task, sickest.patient_id)
    return Outcome(facts, built.index_times, trained, metrics, prediction, drift(home))
