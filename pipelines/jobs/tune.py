"""Search for better settings of the default model within a budget of minutes, and compare what was found.

Held-out patients have no part in it. A fifth of the training patients is set aside from the search, and the leaderboard is
about them: what is the best of many on the folds of a search looks better there than it is.
"""

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.features.catalogue import SERVICES
from vigil.models.cohort import assign_folds, number_patients
from vigil.models.evaluation.comparison import NEWS2
from vigil.models.search.leaderboard import MEASURES, build_leaderboard
from vigil.models.search.record import SearchRecord
from vigil.models.search.searchers import (
    FLAML,
    OPTUNA,
    FlamlSearcher,
    OptunaSearcher,
    Searcher,
    Trial,
    build_flaml_model,
    require_library,
)
from vigil.models.search.space import HOURLY_SPACE, PER_STAY_SPACE, Parameters, apply_settings
from vigil.models.search.trials import FOLDS, SearchRows, run_trials
from vigil.models.seeds import SEED
from vigil.models.tasks import RiskTask
from vigil.models.training.candidate_models import AS_MEASURED, candidates
from vigil.models.training.members import TooFewEventsError, map_side_by_side, release_memory
from vigil.models.training.risk_model import RiskModel
from vigil.pipelines.home import Home
from vigil.pipelines.jobs.train import augment_frame, choose_task, digest, read_labelled_index
from vigil.pipelines.progress import CONSOLE, timed_step, track
from vigil.pipelines.results import write_json

REPORT: Final = "tuning.json"  # under HOME/reports, and with the run of the search
FOUND: Final = "tuned"  # the model with the settings that the search found
BASELINES: Final = ("logistic", NEWS2, "clock")
_PARTS: Final = 5  # of the training patients; one is set aside from the search
_MIN_EVENTS: Final = 2 * FOLDS  # patients with an event among those searched: fewer leave a fold with one or none

Builder = Callable[[Parameters], RiskModel]


@dataclass(frozen=True)
class Tuning:
    """The result of a search.

    Attributes:
        task, feature_service, variant: what was searched.
        data_digest: of the training data.
        run_id: of the search in MLflow; its trials are nested in it.
        simulated: whether the patients are.
        minutes: the budget of this search.
        trials: number of trials of each searcher, with those of earlier searches: ``complete, pruned, minutes``.
        parameters: the best settings of Vigil's own search, for ``vigil train --params``.
        is_default: whether they are the defaults, because nothing better was found.
        patients: number and events of those searched and of those set aside.
        leaderboard: :func:`vigil.models.search.leaderboard.build_leaderboard`.
    """

    task: str
    feature_service: str
    variant: str
    data_digest: str
    run_id: str
    simulated: bool
    minutes: float
    trials: dict[str, dict[str, float]]
    parameters: Parameters
    is_default: bool
    patients: dict[str, dict[str, int]]
    leaderboard: pd.DataFrame

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON holds it."""
        return {**vars(self), "leaderboard": self.leaderboard.to_dict(orient="index")}


def tune(
    home: Home, minutes: float = 20.0, *, rival: bool = False, service: str | None = None, anew: bool = False, seed: int = SEED
) -> Tuning:
    """Search settings of the default model on the training patients; log every trial, and compare the best one.

    A search of the same things in the same data continues where the last one stopped, also after its process was killed.

    Args:
        home: with a cohort and its features.
        minutes: how long to search. Reading the data before, and fitting the leaderboard after, come on top of it.
        rival: also search with FLAML, for as many minutes.
        service: feature service; default: the task's.
        anew: begin a search even if there is one to continue.
        seed: of folds, members and searchers.

    Raises:
        MissingExtraError: Optuna or FLAML is not installed.
        TooFewEventsError: fewer patients have an event than a search needs.
        SettingError: there is no such service.
    """
    for library in (OPTUNA, FLAML) if rival else (OPTUNA,):
        require_library(library)
    cohort = home.cohort
    task, facts = choose_task(cohort, service), cohort.facts
    rows, unseen, data_digest = _read_rows(home, task, seed)

    def new_models() -> dict[str, RiskModel]:
        return candidates(SERVICES[task.feature_service], hourly=task.index == "hourly", seed=seed)

    variant = next(iter(new_models()))
    space = HOURLY_SPACE if task.index == "hourly" else PER_STAY_SPACE
    defaults = {name: new_models()[variant].settings[name] for name in space}
    builders: dict[str, Builder] = {
        OPTUNA: lambda parameters: apply_settings(new_models()[variant], parameters),
        FLAML: lambda parameters: build_flaml_model(new_models()[variant], parameters),
    }
    what = {"service": task.feature_service, "variant": variant, "seed": seed, "folds": FOLDS, "space": space}
    with SearchRecord.open(home.registry, task.name, (facts.source, data_digest), what, anew=anew) as record:
        searchers: dict[str, Searcher] = {OPTUNA: OptunaSearcher(space, defaults, record.trials(OPTUNA), seed)}
        if rival:
            searchers[FLAML] = FlamlSearcher(record.trials(FLAML), seed)
        trials = {name: _search(name, searcher, builders[name], record, rows, minutes) for name, searcher in searchers.items()}
        best = {name: _find_best(of_searcher) for name, of_searcher in trials.items()}
        models = {name: model for name, model in new_models().items() if name in {variant, *BASELINES}}
        if best[OPTUNA] != defaults:
            models[FOUND] = builders[OPTUNA](best[OPTUNA])
        if best.get(FLAML):
            models[FLAML] = builders[FLAML](best[FLAML])
        result = Tuning(
            task=task.name,
            feature_service=task.feature_service,
            variant=variant,
            data_digest=data_digest,
            run_id=record.run_id,
            simulated=facts.simulated,
            minutes=minutes,
            trials={name: _count_trials(of_searcher) for name, of_searcher in trials.items()},
            parameters=best[OPTUNA],
            is_default=best[OPTUNA] == defaults,
            patients={"searched": _count_patients(rows.frame), "set_aside": _count_patients(unseen)},
            leaderboard=_compare(models, variant, rows, unseen, seed),
        )
        _store(home, result)
    return result


def _read_rows(home: Home, task: RiskTask, seed: int) -> tuple[SearchRows, pd.DataFrame, str]:
    """Return the rows to search in, those of the patients set aside, and the digest of both.

    Raises:
        TooFewEventsError: too few patients have an event.
    """
    with timed_step("training frame through Feast"):
        frame = home.features.read_training_frame(read_labelled_index(home.cohort, "train"), task.feature_service)
    augmented = augment_frame(home.cohort, frame, task)
    release_memory()
    is_set_aside = assign_folds(frame["subject_id"], (frame["label"] == 1).to_numpy(), _PARTS, seed=seed) == 0
    rows = SearchRows(frame[~is_set_aside].reset_index(drop=True), tuple(way.select(~is_set_aside) for way in augmented))
    unseen = frame[is_set_aside].reset_index(drop=True)
    events = _count_patients(rows.frame)["events"]
    if events < _MIN_EVENTS:
        raise TooFewEventsError(
            f"labels: {events} patients to search in have an event; expected {_MIN_EVENTS} or more, two for each fold; a "
            "search among fewer would choose by chance, so use the defaults: vigil train"
        )
    return rows, unseen, digest(frame)


def _search(
    name: str, searcher: Searcher, build: Builder, record: SearchRecord, rows: SearchRows, minutes: float
) -> list[Trial]:
    """Search for some minutes, and return the trials of this search and of earlier ones."""
    former = record.trials(name)
    number = itertools.count(len(former) + 1)
    CONSOLE.print(f"  {name}: {len(former)} trials so far, {minutes:g} minutes of search begin", highlight=False)

    def begin(trial: Trial) -> Callable[[Trial], None]:
        update, position = record.begin_trial(name, own := next(number), trial), own

        def show(trial: Trial) -> None:
            update(trial)
            if trial.state != "running":
                loss = f"log loss {trial.losses[-1]:.5f} after {len(trial.losses)} of {FOLDS} folds"
                CONSOLE.print(f"  trial {position}: {trial.state}, {loss}, {trial.seconds:.1f} s", highlight=False)

        return show

    has_result = any(trial.is_complete for trial in former)
    is_ours = name == OPTUNA  # its first trial is the defaults, which everything is compared with
    return former + run_trials(searcher, build, rows, minutes * 60, begin, finish_first=is_ours and not has_result)


def _find_best(trials: list[Trial]) -> Parameters:
    """Return the settings of the complete trial with the lowest loss; none if no trial is complete."""
    complete = [trial for trial in trials if trial.is_complete]
    return min(complete, key=lambda trial: trial.losses[-1]).parameters if complete else {}


def _count_trials(trials: list[Trial]) -> dict[str, float]:
    complete = sum(trial.is_complete for trial in trials)
    minutes = sum(trial.seconds for trial in trials) / 60
    return {"complete": complete, "pruned": len(trials) - complete, "minutes": minutes}


def _count_patients(frame: pd.DataFrame) -> dict[str, int]:
    with_event = frame.loc[frame["label"] == 1, "subject_id"]
    known = frame.loc[frame["label"].notna(), "subject_id"]
    return {"patients": len(np.unique(number_patients(known)[0])), "events": len(np.unique(number_patients(with_event)[0]))}


def _compare(models: dict[str, RiskModel], default: str, rows: SearchRows, unseen: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Fit the models as training does, on the patients searched, and compare them on those set aside."""

    def fit(name: str) -> NDArray[np.float64]:
        augmented = () if name in AS_MEASURED else rows.augmented
        return models[name].cross_fit(rows.frame, rows.label, rows.frame["subject_id"], augmented)

    fitted = track(map_side_by_side(fit, list(models)), "leaderboard", len(models))
    on_folds = dict(zip(models, fitted, strict=True))
    risks = {name: model.risk(unseen) for name, model in models.items()}
    return build_leaderboard((rows.frame, on_folds), (unseen, risks), default, seed)


def _store(home: Home, result: Tuning) -> None:
    """Write the result into the home, and log it with the run of the search."""
    home.reports.mkdir(exist_ok=True)
    write_json(home.reports / REPORT, result.as_dict())
    measured = result.leaderboard[list(MEASURES)].to_dict(orient="index")
    home.registry.log(
        dictionaries={REPORT: json.loads((home.reports / REPORT).read_text())},
        metrics={f"{name}.{measure}": value for name, figures in measured.items() for measure, value in figures.items()},
    )
