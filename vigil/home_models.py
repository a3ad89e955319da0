"""Models of a home from Python: risks of readings and of cohorts, and what moves them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pandas as pd

from vigil.cohorts import Cohort
from vigil.frames import Frame, same_kind, to_pandas
from vigil.notebook_views import show_model

if TYPE_CHECKING:  # their libraries take seconds
    from matplotlib.figure import Figure

    from vigil.homes import Home

_RISK_ROWS: Final = (
    "subject_id", "index_time", "start", "end", "onset", "onset_known", "label", "unit", "age", "sex", "news2",
)  # fmt: skip


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
