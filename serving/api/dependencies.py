"""What routes take: one component each, handed over by FastAPI. :mod:`vigil.serving.composition` makes them."""

from typing import Annotated

from fastapi import Depends, Request

from vigil.features.pseudonyms import Pseudonyms
from vigil.serving.api.concurrency import ShortLivedCache
from vigil.serving.api.routes.ward_events import OpenStreams
from vigil.serving.auth.access import Access
from vigil.serving.identity.identities import Identities
from vigil.serving.observability.metrics import Metrics
from vigil.serving.records.clock import Clock
from vigil.serving.records.journal import Journal
from vigil.serving.records.prediction_log import PredictionLog
from vigil.serving.records.ward_settings import WardSettingsFile
from vigil.serving.records.ward_state import WardState
from vigil.serving.scoring.champion import Champion
from vigil.serving.scoring.risk_service import RiskService
from vigil.serving.stream.ingestion import Ingestion


class _Component:
    """A dependency: one component of the process, by its name."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def __call__(self, request: Request) -> object:
        return getattr(request.app.state.components, self._name)


AccessHere = Annotated[Access, Depends(_Component("access"))]
ChampionHere = Annotated[Champion, Depends(_Component("champion"))]
ClockHere = Annotated[Clock, Depends(_Component("clock"))]
IdentitiesHere = Annotated[Identities, Depends(_Component("identities"))]
IngestionHere = Annotated[Ingestion, Depends(_Component("ingestion"))]
JournalHere = Annotated[Journal, Depends(_Component("journal"))]
MetricsHere = Annotated[Metrics, Depends(_Component("metrics"))]
MetricsPageHere = Annotated[ShortLivedCache[bytes], Depends(_Component("metrics_page"))]
PredictionLogHere = Annotated[PredictionLog, Depends(_Component("log"))]
PseudonymsHere = Annotated[Pseudonyms, Depends(_Component("pseudonyms"))]
RiskServiceHere = Annotated[RiskService, Depends(_Component("risk_service"))]
StreamsHere = Annotated[OpenStreams, Depends(_Component("streams"))]
WardSettingsHere = Annotated[WardSettingsFile, Depends(_Component("ward_settings"))]
WardStateHere = Annotated[WardState, Depends(_Component("ward_state"))]
