"""The Python interface: what ``import vigil`` offers. It calls the rooms and adds nothing to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import narwhals as nw
import numpy as np
import pandas as pd

from vigil.features.errors import VigilError
from vigil.features.extras import require
from vigil.features.scores import NEWS2_BANDS, compute_score
from vigil.frames import Frame, same_kind, to_pandas
from vigil.glucose import glucose_profile, time_in_range
from vigil.notebook_views import EvaluationTable, html_table, show_home, show_model

if TYPE_CHECKING:  # their libraries take seconds, and scores need none of them
    from matplotlib.figure import Figure

    from vigil.pipelines.jobs.check_cohort import CohortCheck
    from vigil.pipelines.jobs.train import Trained
    from vigil.pipelines.sources import Batch, Source
    from vigil.pipelines.sources.table.draft import Draft

__all__ = [
    "Cohort",
    "Home",
    "Model",
    "VigilError",
    "draft_mapping",
    "features",
    "glucose_profile",
    "news2",
    "read_cohort",
    "time_in_range",
]


_RISK_ROWS: Final = (
    "subject_id", "index_time", "start", "end", "onset", "onset_known", "label", "unit", "age", "sex", "news2",
)  # fmt: skip


@dataclass(frozen=True)
class Cohort:
    """A cohort as its source gives it: nothing is checked or stored yet.

    Attributes:
        source: where it is from.
    """

    source: "Source"

    @property
    def observations(self) -> pd.DataFrame:
        """The readings that can be used, checked; ``unit`` is the signal's own."""
        from vigil.pipelines.jobs.ingest import check_readings

        return _with_units(check_readings(self._table("observations"), self.source).accepted)

    @property
    def stays(self) -> pd.DataFrame:
        """A row a stay: ``subject_id, start, end`` and what is known of the patient."""
        return self._table("stays")

    @property
    def outcomes(self) -> pd.DataFrame:
        """A row a stay with the outcome: ``subject_id, onset, kind, onset_known``."""
        return self._table("outcomes")

    def check(self) -> "CohortCheck":
        """Return what becomes of it: signals, quarantine, facts and outcomes, as ``vigil cohort check`` shows them.

        Raises:
            VigilError: its tables break their contract.
        """
        from vigil.pipelines.jobs.check_cohort import check_cohort

        return check_cohort(self.source)

    def _table(self, name: str) -> pd.DataFrame:
        tables: list[pd.DataFrame] = [getattr(batch, name) for batch in self._batches]
        return pd.concat(tables, ignore_index=True)

    @cached_property
    def _batches(self) -> "list[Batch]":
        return list(self.source.batches())

    def _repr_html_(self) -> str:
        result = self.check()
        rows = [
            (
                name,
                f"{own.accepted:,}",
                f"{own.median:g} {own.unit}",
                ", ".join(f"{why} {n:,}" for why, n in own.quarantined.items()),
            )
            for name, own in result.signals.items()
        ]
        head = f"{result.name}: {result.stays:,} stays, {result.events:,} with the outcome ({result.task})"
        warnings = "".join(f"<p>Look: {escape(warning)}.</p>" for warning in result.warnings)
        return f"<p><b>{escape(head)}</b></p>{html_table(('signal', 'observations', 'median', 'quarantined'), rows)}{warnings}"


def read_cohort(source: str | Path, data: str | Path | None = None) -> Cohort:
    """Open a cohort.

    Args:
        source: a mapping of tables (a ``.toml`` file, or the name of one that comes with Vigil), or a source by name, as
            ``vigil run --source`` takes it.
        data: path of the data; default: the folder of the mapping. The simulated ward has none.

    Raises:
        VigilError: there is no such source, or its data cannot be read.

    >>> read_cohort("simulated").source.name
    'simulated'
    """
    from vigil.pipelines.sources import SOURCES, open_source

    path = None if data is None else Path(data)
    if str(source) in SOURCES:
        return Cohort(open_source(str(source), path))
    return Cohort(open_source(None, path, Path(source)))


def draft_mapping(*files: str | Path, time_zone: str | None = None) -> "Draft":
    """Propose a mapping of tables: its ``text``, to be written and looked at, and ``doubts``, which people have to decide.

    Args:
        files: CSV or Parquet files of one folder.
        time_zone: of times without one, such as ``Europe/Berlin``.

    Raises:
        VigilError: a file cannot be read, or none holds observations.
    """
    from vigil.pipelines.sources.table.draft import draft

    return draft([Path(file) for file in files], time_zone)


def news2(frame: Frame) -> Frame:
    """Return NEWS2 of rows of vital signs: ``news2``, ``news2_highest`` and the points of each component.

    A missing component counts 0 in ``news2`` and its highest points in ``news2_highest``. NEWS2 is for people of 16 and over
    who are not pregnant. Source: Royal College of Physicians. National Early Warning Score (NEWS) 2. London: RCP, 2017.

    Args:
        frame: columns named after signals, in their own units: ``respiratory_rate, spo2, on_oxygen`` (1: yes), ``systolic_bp,
            heart_rate, consciousness`` (0: alert), ``body_temperature`` (Cel). Those that are not there are missing.

    Raises:
        VigilError: none of them is there.

    >>> frame = pd.DataFrame({"respiratory_rate": [25], "spo2": [91], "heart_rate": [80]})
    >>> news2(frame)[["news2", "news2_highest"]].values.tolist()
    [[6.0, 17.0]]
    """
    rows = nw.from_native(frame, eager_only=True)
    if not set(NEWS2_BANDS) & set(rows.columns):
        raise VigilError(
            f"frame: no component of NEWS2; expected some of {', '.join(NEWS2_BANDS)}; got {', '.join(rows.columns)}"
        )
    values = {
        signal: rows[signal].cast(nw.Float64).to_numpy().astype(np.float64)
        if signal in rows.columns
        else np.full(len(rows), np.nan)
        for signal in NEWS2_BANDS
    }
    scores = compute_score("news2", NEWS2_BANDS, values)
    return rows.with_columns(nw.new_series(name, own, backend=rows.implementation) for name, own in scores.items()).to_native()


def features(readings: Frame, index: Any = None, service: str = "vital_signs_v3") -> Frame:
    """Return features of subjects, by the same definition as training and serving have them.

    Args:
        readings: a row a reading: ``subject_id, observed_at, signal, value``, and others (:mod:`vigil.features.observations`).
        index: ``subject_id, index_time``, and ``age, sex, pregnant, unit_admitted_at, hospital_admitted_at`` where known.
            Default: the last reading of each subject, with the facts that readings state.
        service: name of a feature service.

    Returns:
        ``subject_id, index_time`` and the features of the service.

    Raises:
        VigilError: there is no such service, a column is missing, or no reading can be used.
    """
    from vigil.features.batch import build_features
    from vigil.features.catalogue import SERVICES, service_views
    from vigil.features.last_readings import FACTS, index_of_last
    from vigil.features.observations import check

    if service not in SERVICES:
        raise VigilError(f"service={service!r}: no such feature service; expected one of {', '.join(SERVICES)}")
    rows = to_pandas(readings)
    accepted = check(rows).accepted
    times = index_of_last(rows, accepted, "readings") if index is None else to_pandas(index)
    times = times.assign(**{name: np.nan for name in FACTS if name not in times})
    built = build_features(accepted, times, service_views(service))
    return same_kind(readings, built[["subject_id", "index_time", *SERVICES[service]]])


@dataclass(frozen=True)
class Model:
    """A model of a home, asked about readings that need not be stored.

    Attributes:
        home: whose model it is.
        task: the question it answers.
        version: of the model; None: the champion, and NEWS2 where there is none.
    """

    home: "Home"
    task: str
    version: str | None = None

    def predict(self, readings: Frame) -> Frame:
        """Return a risk for each patient, as of their last reading; NEWS2 where the model may not be asked, and why.

        Args:
            readings: a row a reading: ``subject_id, observed_at, signal, value``; optionally ``unit``, and facts about the
                patient: ``age, sex`` (``female`` or ``male``).

        Returns:
            ``subject_id, as_of, basis, probability, band, decided_by, news2, news2_highest, findings``.

        Raises:
            VigilError: a column is missing, no reading can be used, or there is no such version.
        """
        from vigil.pipelines.jobs.score_readings import score_readings

        return same_kind(readings, score_readings(self.home.inner, to_pandas(readings), self.task, self.version)[0])

    def risks(self, cohort: Cohort | None = None) -> pd.DataFrame:
        """Return the risk of every index time of a cohort with its label, to be judged in any way.

        Args:
            cohort: of another hospital, say, all of whose patients are scored. Default: the held-out patients of the home's own
                cohort. Never judge a model on patients that it was trained on.

        Returns:
            ``subject_id, index_time, start, end, onset, onset_known, label`` (NaN: the task does not ask), ``unit, age, sex,
            probability, news2``, and ``net_score, net_spot`` of the safety net, by patient and time. Columns that the model's
            feature service lacks are missing.

        Raises:
            VigilError: there is no such version, or the cohort cannot be read.
        """
        from vigil.features.catalogue import SERVICES
        from vigil.models.assessment import safety_net_scores
        from vigil.pipelines.challenges.frames import read_frame
        from vigil.pipelines.jobs.train import read_labelled_index

        inner = self.home.inner
        registered = inner.existing_registry().load(self.task, self.version)
        if cohort is None:
            index = read_labelled_index(inner.cohort, "held_out")
            stays = inner.cohort.read("stays")[["subject_id", "start", "end", "unit"]]
            frame = inner.features.read_training_frame(index, registered.feature_service).merge(stays, on="subject_id")
        else:
            frame = read_frame(cohort.source, SERVICES[registered.feature_service], cohort.source.name)
        rows = frame[[name for name in _RISK_ROWS if name in frame]]
        return rows.assign(probability=registered.model.risk(frame), **(safety_net_scores(frame) if "news2" in frame else {}))

    def chart(self, subject_id: str, hours: int = 36) -> "Figure":
        """Draw the last hours of a stay of the home's cohort: risk, NEWS2 and the signals below each other.

        Raises:
            KeyError: the cohort has no stay of this subject.
            VigilError: there is no such version.
        """
        from vigil.pipelines.charts import patient_chart

        return patient_chart(self.home.inner, subject_id, hours, self.version)

    @property
    def alarm_threshold(self) -> float:
        """The risk from which an alarm sounds, as training froze it."""
        return float(self.home.inner.existing_registry().load(self.task, self.version).model.thresholds_["high"])

    def _repr_html_(self) -> str:
        return show_model(self.home.inner, self.task, self.version)

    def explain(self, readings: Frame) -> Frame:
        """Return the signals that move each risk most: ``subject_id, signal, log_odds, measured``.

        ``readings``: as :meth:`predict` takes them.
        """
        from vigil.pipelines.jobs.score_readings import explain_readings

        return same_kind(readings, explain_readings(self.home.inner, to_pandas(readings), self.task, self.version))


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
        return _with_units(read_observations(self.inner.cohort, list(subject_ids)).merge(facts, on="subject_id"))

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


def _with_units(observations: pd.DataFrame) -> pd.DataFrame:
    """Return observations with the unit of their signals, so that nothing has to be guessed where they are handed on."""
    from vigil.features.signals import STORED

    return observations.assign(unit=observations["signal"].astype(object).map({name: own.unit for name, own in STORED.items()}))
