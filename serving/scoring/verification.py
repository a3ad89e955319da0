"""Verification: one past risk made again on the spot, and compared bit for bit."""

from dataclasses import dataclass
from typing import Literal

from vigil.features.catalogue import SERVICES
from vigil.features.errors import VigilError
from vigil.models.registry import RegisteredModel
from vigil.serving.records.journal import Journal
from vigil.serving.records.prediction_log import PredictionLog
from vigil.serving.scoring.model_versions import ModelVersions
from vigil.serving.scoring.past_risks import PastRisk
from vigil.serving.scoring.reproduction import PredictionGroup, Sources

Obstacle = Literal["retention", "inputs_not_stored", "no_model", "no_feature_service"]


@dataclass(frozen=True, slots=True)
class Verification:
    """What came of it.

    Attributes:
        is_equal: whether all outputs are as they were given; None: it could not be made again.
        different: the outputs that differ, by name.
        from_log: whether the features of the log were scored again, since the readings themselves are not here.
        obstacle: why it could not be made again.
    """

    is_equal: bool | None
    different: tuple[str, ...] = ()
    from_log: bool = False
    obstacle: Obstacle | None = None


@dataclass(frozen=True)
class Verifier:
    """Makes risks of one home again."""

    journal: Journal
    log: PredictionLog
    models: ModelVersions

    def verify(self, past: PastRisk) -> Verification:
        """Make a past risk again, from the readings as of its time and with the model that made it."""
        if past.report.feature_service not in SERVICES:
            return Verification(None, obstacle="no_feature_service")
        registered: RegisteredModel | None = None
        if past.model is not None:
            try:
                registered = self.models.load(*past.model)
            except VigilError:
                return Verification(None, obstacle="no_model")
        with self.journal.snapshot() as journal:  # one transaction, so that retention cannot come between
            group = PredictionGroup(Sources(journal, self.log), registered, past.report.feature_service, past.logged)
            verdict, outputs = group.verdicts()[0]
        if verdict == "different":
            return Verification(False, tuple(outputs))
        if verdict in ("reproduced", "from_logged_features"):
            return Verification(True, from_log=verdict == "from_logged_features")
        return Verification(None, obstacle="retention" if verdict == "past_retention" else "inputs_not_stored")
