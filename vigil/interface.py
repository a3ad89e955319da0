"""The Python interface: what ``import vigil`` offers. It calls the rooms and adds nothing to them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa
from narwhals.typing import IntoDataFrameT as Frame

from vigil.features.errors import VigilError
from vigil.features.scores import NEWS2_BANDS, compute_score

if TYPE_CHECKING:  # their libraries take seconds, and scores need none of them
    from vigil.pipelines.jobs.check_cohort import CohortCheck
    from vigil.pipelines.jobs.train import Trained
    from vigil.pipelines.sources import Batch, Source
    from vigil.pipelines.sources.table.draft import Draft

__all__ = ["Cohort", "Home", "Model", "VigilError", "draft_mapping", "features", "news2", "read_cohort"]


@dataclass(frozen=True)
class Cohort:
    """A cohort as its source gives it: nothing is checked or stored yet.

    Attributes:
        source: where it is from.
    """

    source: "Source"

    @property
    def observations(self) -> pd.DataFrame:
        """The readings that can be used, checked and in the signals' own units."""
        from vigil.features.observations import check

        return check(self._table("observations"), declared=self.source.declared).accepted

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
        return f"<p><b>{escape(head)}</b></p>{_html_table(('signal', 'observations', 'median', 'quarantined'), rows)}{warnings}"


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
    from vigil.features.observations import check
    from vigil.pipelines.jobs.score_readings import OPTIONAL_COLUMNS, index_of_last

    if service not in SERVICES:
        raise VigilError(f"service={service!r}: no such feature service; expected one of {', '.join(SERVICES)}")
    rows = to_pandas(readings)
    accepted = check(rows).accepted
    times = index_of_last(rows, accepted, "readings") if index is None else to_pandas(index)
    times = times.assign(**{name: np.nan for name in OPTIONAL_COLUMNS if name not in times})
    built = build_features(accepted, times, service_views(service))
    return _like(readings, built[["subject_id", "index_time", *SERVICES[service]]])


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

        return _like(readings, score_readings(self.home.inner, to_pandas(readings), self.task, self.version)[0])

    def explain(self, readings: Frame) -> Frame:
        """Return the signals that move each risk most: ``subject_id, signal, log_odds, measured``.

        ``readings``: as :meth:`predict` takes them.
        """
        from vigil.pipelines.jobs.score_readings import explain_readings

        return _like(readings, explain_readings(self.home.inner, to_pandas(readings), self.task, self.version))


class Home:
    """The directory of one installation, as the commands of ``vigil`` use it."""

    def __init__(self, path: str | Path) -> None:
        """Open or make a home at a path."""
        from vigil.pipelines.environment import prepare_process
        from vigil.pipelines.home import Home as Inner

        prepare_process()
        self.inner: Final = Inner(Path(path))

    def __repr__(self) -> str:
        return f"vigil.Home({str(self.inner.path)!r})"

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

    def train(self, only: str | None = None, seed: int = 2026) -> "Trained":
        """Fit, calibrate and register the model and its baselines; return what was registered.

        A first version is the champion, if it passes the gates of behaviour; ``refused`` says why it is not.

        Args:
            only: one variant, such as ``logistic``; default: all.
            seed: of the members.

        Raises:
            VigilError: the home has no cohort, or too few outcomes.
        """
        from vigil.pipelines.jobs.train import train

        return train(self.inner, seed, only=only)

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

        return pd.DataFrame(evaluate(self.inner, version, by=by, attributes=_attributes(attributes))).T.rename_axis("model")

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


def to_pandas(frame: Any) -> pd.DataFrame:
    """Return a frame of any kind as one of pandas."""
    rows: pd.DataFrame = frame if isinstance(frame, pd.DataFrame) else nw.from_native(frame, eager_only=True).to_pandas()
    return rows


def _attributes(given: Any) -> pd.DataFrame | None:
    if isinstance(given, str | Path):
        from vigil.pipelines.jobs.fairness import read_attributes

        return read_attributes(Path(given))
    return None if given is None else to_pandas(given)


def _like(frame: Frame, result: pd.DataFrame) -> Frame:
    """Return a result as the kind of frame that was given."""
    backend = nw.from_native(frame, eager_only=True).implementation
    same: Any = result
    if not isinstance(frame, pd.DataFrame):
        same = nw.from_arrow(pa.Table.from_pandas(result, preserve_index=False), backend=backend).to_native()
    return cast("Frame", same)


def _html_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(one)}</th>" for one in headings)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
