"""Homes from Python: a cohort is ingested, models are trained, searched and judged, as the commands do it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from vigil.cohorts import Cohort, with_units
from vigil.features.extras import require
from vigil.frames import Frame, to_pandas
from vigil.home_models import Model
from vigil.notebook_views import EvaluationTable, show_home

if TYPE_CHECKING:  # their libraries take seconds
    from vigil.pipelines.jobs.train import Trained


class Home:
    """The directory of one installation, as the commands of ``vigil`` use it."""

    def __init__(self, path: str | Path) -> None:
        """Open or make a home at a path.

        Raises:
            MissingExtraError: Vigil is installed without what homes need.
        """
        require("service")
        from vigil.pipelines.environment import prepare_process
        from vigil.pipelines.home import Home as Inner

        prepare_process()
        self.inner: Final = Inner(Path(path))

    def __repr__(self) -> str:
        return f"vigil.Home({str(self.inner.path)!r})"

    def _repr_html_(self) -> str:
        return show_home(self.inner)

    def ingest(self, cohort: Cohort, *, replace: bool = False) -> Mapping[str, Any]:
        """Check and store a cohort, and compute its features; return what became of it.

        Raises:
            VigilError: the home holds another cohort, or the cohort breaks its contract.
        """
        from dataclasses import asdict

        from vigil.pipelines.jobs.build_features import build
        from vigil.pipelines.jobs.ingest import ingest

        facts = ingest(cohort.source, self.inner, replace=replace)
        build(self.inner)
        return asdict(facts)

    def export(self, folder: str | Path, written: str = "meds") -> None:
        """Write the cohort for other programs, under pseudonyms; ``read_cohort(written, folder)`` reads it back.

        Args:
            folder: new, or empty.
            written: ``meds`` or ``omop``.

        Raises:
            VigilError: the home has no cohort, the folder holds files, or there is no such format.
        """
        from vigil.pipelines.exports import export_cohort

        export_cohort(self.inner, written, Path(folder))

    def tune(self, minutes: float = 20.0, *, rival: bool = False, anew: bool = False, seed: int = 2026) -> pd.DataFrame:
        """Search settings of the default model on training patients; return the leaderboard, the best model first.

        A search that was stopped continues. What was found is in ``reports/tuning.json`` of the home, for :meth:`train`.

        Args:
            minutes: how long to search; reading the data and fitting the leaderboard come on top of it.
            rival: also search with FLAML, for as many minutes.
            anew: begin a search even if there is one to continue.
            seed: of folds, members and searchers.

        Returns:
            A row a model: ``log_loss, auprc, auroc`` on training patients set aside from the search, ``gain_log_loss`` and
            ``gain_auprc`` over the default, each with ``_low`` and ``_high``; the first three on the folds as ``folds_...``.

        Raises:
            VigilError: Optuna or FLAML is not installed, the home has no cohort, or too few outcomes.
        """
        from vigil.pipelines.jobs.tune import tune

        return tune(self.inner, minutes, rival=rival, anew=anew, seed=seed).leaderboard

    def observations(self, subject_ids: Sequence[str]) -> pd.DataFrame:
        """Return the stored observations of some patients, as :meth:`Model.predict` takes them: with ``unit, age, sex``.

        Raises:
            VigilError: the home has no cohort.
        """
        from vigil.pipelines.jobs.behaviour import read_observations

        stays = self.inner.cohort.read("stays")[["subject_id", "age", "sex", "unit_admitted_at", "hospital_admitted_at"]]
        facts = stays.assign(sex=stays["sex"].map({0: "female", 1: "male"}))
        return with_units(read_observations(self.inner.cohort, list(subject_ids)).merge(facts, on="subject_id"))

    def train(
        self, only: str | None = None, seed: int = 2026, params: "str | Path | Mapping[str, Any] | None" = None
    ) -> "Trained":
        """Fit, calibrate and register the model and its baselines; return what was registered.

        A first version is the champion, if it passes the gates of behaviour; ``refused`` says why it is not.

        Args:
            only: one variant, such as ``logistic``; default: all.
            seed: of the members.
            params: settings of the registered variant by name, or a file of them, such as ``reports/tuning.json`` of the home.

        Raises:
            VigilError: the home has no cohort, too few outcomes, or there is no such setting.
        """
        from vigil.pipelines.jobs.proposal import Proposal
        from vigil.pipelines.jobs.train import train

        proposal = Proposal.read(Path(params)) if isinstance(params, str | Path) else Proposal(params or {})
        return train(self.inner, seed, only=only, proposal=proposal)

    def evaluate(
        self, version: str | None = None, by: Sequence[str] = (), attributes: Frame | str | Path | None = None
    ) -> pd.DataFrame:
        """Examine a version on the held-out patients; return a row a model, and write the report into the home.

        Args:
            version: of the model; default: the champion.
            by, attributes: the groups of its section about fairness, as :meth:`fairness` takes them.

        Raises:
            VigilError: there is no such version, or no such attribute.
        """
        from vigil.pipelines.jobs.evaluate import evaluate

        figures = evaluate(self.inner, version, by=by, attributes=_attributes(attributes))
        return EvaluationTable(pd.DataFrame(figures).T.rename_axis("model"))

    def fairness(
        self, by: Sequence[str] = (), attributes: Frame | str | Path | None = None, version: str | None = None
    ) -> pd.DataFrame:
        """Return how a version treats groups of the held-out patients: a row a group, the worst of each attribute first.

        Args:
            by: attributes: ``sex, age_band, ward``, ``site``, or one that a mapping or ``attributes`` brings. Default: all
                that divide these patients.
            attributes: a frame or a file (CSV, Parquet): ``subject_id`` (of stays or of patients, as the source names them),
                and a column an attribute.
            version: of the model; default: the champion.

        Returns:
            ``by, group, patients, events, index_times, prevalence, enough, reference``; ``selection_rate,
            true_positive_rate, false_positive_rate, precision, auroc``, each with ``_low, _high`` (95 %), ``_difference`` and
            ``_ratio`` to the largest group, which have ``_low, _high`` too. ``enough`` is False where nothing can be concluded.

        Raises:
            VigilError: there is no such version, or no such attribute.
        """
        from vigil.pipelines.jobs.evaluate import examine_version_fairness

        return examine_version_fairness(self.inner, by, _attributes(attributes), version).groups

    def group_calibration(
        self, by: Sequence[str] = (), attributes: Frame | str | Path | None = None, version: str | None = None
    ) -> pd.DataFrame:
        """Return observed frequencies by fifth of the predicted risk, in each group that is large enough to judge.

        Args:
            by, attributes, version: as :meth:`fairness` takes them.

        Returns:
            ``by, group, predicted, observed, observed_low, observed_high, n``.

        Raises:
            VigilError: as :meth:`fairness`.
        """
        from vigil.pipelines.jobs.evaluate import examine_version_fairness

        return examine_version_fairness(self.inner, by, _attributes(attributes), version).calibration

    def leaderboard(self) -> pd.DataFrame:
        """Return a row for each variant and baseline of each version, with its figures in the version's last evaluation.

        Rows of the same ``held_out`` compare with each other; among these the highest AUPRC comes first.

        Raises:
            VigilError: the home has no model.
        """
        from vigil.models.version_history import list_variants

        variants = list_variants(self.inner.existing_registry(), self.inner.cohort.task.name)
        return pd.DataFrame([{**one, **one["metrics"]} for one in variants]).drop(columns="metrics", errors="ignore")

    def training_rows(self, service: str | None = None) -> pd.DataFrame:
        """Return the rows that training learns from: of training patients only, the label of each index time and its features.

        Args:
            service: feature service; default: the task's.

        Returns:
            ``subject_id, index_time, onset, onset_known, label`` (NaN: not learned from) and the features of the service.

        Raises:
            VigilError: the home has no cohort or no features, or there is no such service.
        """
        from vigil.pipelines.jobs.train import choose_task, read_labelled_index

        task = choose_task(self.inner.cohort, service)
        return self.inner.features.read_training_frame(read_labelled_index(self.inner.cohort, "train"), task.feature_service)

    def champion(self) -> Model:
        """Return the model in use."""
        return Model(self, self.inner.served_task)

    def version(self, version: str) -> Model:
        """Return a version of the model, whether it is in use or not."""
        return Model(self, self.inner.served_task, version)

    @property
    def report(self) -> Path:
        """Where the report of the last evaluation is."""
        return self.inner.reports / "evaluation.html"


def _attributes(given: Any) -> pd.DataFrame | None:
    if isinstance(given, str | Path):
        from vigil.pipelines.jobs.fairness import read_attributes

        return read_attributes(Path(given))
    return None if given is None else to_pandas(given)
