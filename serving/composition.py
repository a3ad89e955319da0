"""Composition: the components of each process, made once from the settings and handed to what uses them."""

from dataclasses import dataclass
from functools import cache, partial
from typing import Final

from sqlalchemy import Engine

from vigil.features.installed import record_use, require_packages
from vigil.features.pseudonyms import Pseudonyms, open_pseudonyms
from vigil.features.signals import SIGNALS
from vigil.features.store.client import Store
from vigil.models.own_tasks import find_task
from vigil.serving.api.concurrency import ShortLivedCache
from vigil.serving.api.routes.ward_events import OpenStreams
from vigil.serving.api.standing_answers import StandingAnswers
from vigil.serving.auth.access import Access
from vigil.serving.auth.local_tokens import JWKS_FILE, LOCAL_AUDIENCE, LOCAL_FOLDER, LOCAL_ISSUER
from vigil.serving.auth.tokens import TokenVerifier
from vigil.serving.cds_hooks.service import CdsService
from vigil.serving.fhir.alarm_pages import AlarmPages
from vigil.serving.fhir.chart import Chart
from vigil.serving.fhir.directory import Directory
from vigil.serving.fhir.exports.files import ExportFiles
from vigil.serving.fhir.exports.follower import ExportFollower
from vigil.serving.fhir.exports.service import ExportService
from vigil.serving.fhir.groups import Groups
from vigil.serving.fhir.inbound import Inbound
from vigil.serving.fhir.news2_pages import News2Pages
from vigil.serving.fhir.observation_pages import ObservationPages
from vigil.serving.fhir.outcomes import BASE as FHIR_BASE
from vigil.serving.fhir.past_risk_assessments import PastRiskAssessments
from vigil.serving.fhir.settings import FhirSettingsFile
from vigil.serving.fhir.subscriptions.deliverer import Deliverer
from vigil.serving.fhir.subscriptions.header import PURPOSE as HEADER_PURPOSE
from vigil.serving.fhir.subscriptions.service import SubscriptionService
from vigil.serving.fhir.subscriptions.telling import Telling
from vigil.serving.identity.identities import Identities
from vigil.serving.login.service import LoginService, open_login
from vigil.serving.observability.logs import configure_logging
from vigil.serving.observability.metrics import Metrics
from vigil.serving.observability.readiness import Readiness
from vigil.serving.pages.audit import Audit
from vigil.serving.pages.operations_view import Operations, OperationsViews
from vigil.serving.pages.patient_view import PatientViews
from vigil.serving.pages.ward_view import WardViews
from vigil.serving.records import connection_tables
from vigil.serving.records.clock import Clock, open_clock
from vigil.serving.records.database import open_database
from vigil.serving.records.exports import Exports
from vigil.serving.records.fhir_names import FhirNames
from vigil.serving.records.fhir_observations import FhirObservations
from vigil.serving.records.journal import Journal
from vigil.serving.records.people import People
from vigil.serving.records.prediction_log import PredictionLog
from vigil.serving.records.source_settings import SourceSettingsFile
from vigil.serving.records.subscriptions import Subscriptions
from vigil.serving.records.ward_settings import WardSettingsFile
from vigil.serving.records.ward_state import WardState
from vigil.serving.scoring.champion import Champion
from vigil.serving.scoring.model_versions import ModelVersions
from vigil.serving.scoring.past_risks import PastRisks
from vigil.serving.scoring.risk_service import RiskService
from vigil.serving.scoring.standing import StandingRisks
from vigil.serving.scoring.verification import Verifier
from vigil.serving.settings import Settings
from vigil.serving.smart.clients import Clients
from vigil.serving.smart.service import SmartService, open_smart
from vigil.serving.stream.group_commit import GroupCommit
from vigil.serving.stream.ingestion import Ingestion
from vigil.serving.stream.online_store_writer import OnlineStoreWriter
from vigil.serving.stream.rescorer import Rescorer

_OPERATIONS_SECONDS: Final = 10.0  # of what operations shows to everyone; it counts a day of observations
_CACHE_SECONDS: Final = 1.0  # of what anyone may ask for without a token: readiness and metrics


@dataclass(frozen=True)
class ApiComponents:
    """The components of the process that answers requests. Routes get them singly (:mod:`vigil.serving.api.dependencies`)."""

    access: Access
    alarm_pages: AlarmPages
    audit: Audit
    cds: CdsService
    champion: Champion
    chart: Chart
    clock: Clock
    directory: Directory
    export_follower: ExportFollower
    exports: ExportService
    fhir: Inbound
    group_commit: GroupCommit
    groups: Groups
    identities: Identities
    ingestion: Ingestion
    journal: Journal
    log: PredictionLog
    login: LoginService
    metrics: Metrics
    metrics_page: ShortLivedCache[bytes]
    news2_pages: News2Pages
    observation_pages: ObservationPages
    operations: ShortLivedCache[Operations]
    operations_views: OperationsViews
    past_risks: PastRiskAssessments
    patient_views: PatientViews
    pseudonyms: Pseudonyms
    readiness: ShortLivedCache[bool]
    risk_service: RiskService
    smart: SmartService
    standing_answers: StandingAnswers
    streams: OpenStreams
    subscriptions: SubscriptionService
    tokens: TokenVerifier
    ward_settings: WardSettingsFile
    ward_state: WardState
    ward_views: WardViews

    def close(self) -> None:
        """Write what is waiting, and end the threads."""
        self.export_follower.stop()
        self.group_commit.stop()
        self.champion.stop()


def open_risk_service(settings: Settings, champion: Champion | None = None, ward_state: WardState | None = None) -> RiskService:
    """Return the risk service of a home: its champion, store, journal, clock, log and ward state.

    Raises:
        PackageError: an installed package that the home uses is missing.
    """
    require_packages(settings.home)
    champion = champion or Champion.loaded(settings.home, settings.task)
    ward_state = ward_state or WardState(settings.home)
    task, journal, clock = find_task(settings.task, settings.home), Journal(settings.home), open_clock(settings.home)
    return RiskService(
        champion=champion,
        task=task,
        store=Store(settings.home),
        journal=journal,
        clock=clock,
        log=PredictionLog(settings.home),
        declared=SourceSettingsFile(settings.home).declarations,
        silences=ward_state.silences,
        standing=StandingRisks(champion, task, journal, ward_state, clock),
    )


def open_api(settings: Settings, metrics: Metrics) -> ApiComponents:
    """Return the components of the process that answers requests.

    Raises:
        VigilError: a file of the home cannot be used.
    """
    home = settings.home
    require_packages(home)
    record_use(home, "signals", SIGNALS)  # from now on observations of any of them are taken
    champion = _open_champion(settings, metrics)
    ward_state = WardState(home)
    service = open_risk_service(settings, champion, ward_state)
    journal = service.journal
    identities, pseudonyms = Identities(home), open_pseudonyms(home)
    access = Access(journal, settings.requests_per_second)
    group_commit = GroupCommit(journal, identities, metrics)
    connections = open_database(home, connection_tables.SCHEMA)
    smart = open_smart(home, settings.url, connections)
    own_keys = home / LOCAL_FOLDER / JWKS_FILE
    tokens = TokenVerifier(
        issuer=settings.token_issuer,
        audience=settings.token_audience,
        jwks=settings.token_keys or own_keys,
        own=(LOCAL_ISSUER, LOCAL_AUDIENCE, own_keys),
    )
    readiness = Readiness(champion, service.task, tokens, service.store, journal, ward_state)
    ingestion = Ingestion(
        pseudonyms=pseudonyms,
        identities=identities,
        journal=journal,
        access=access,
        group_commit=group_commit,
        declared=service.declared,
    )
    fhir_settings = FhirSettingsFile(home)
    directory = _open_directory(settings, connections, fhir_settings, pseudonyms, identities)
    chart = Chart(directory, pseudonyms, identities, journal, access)
    fhir_observations, ward_settings = FhirObservations(connections), WardSettingsFile(home)
    operations_views = OperationsViews(
        home=home,
        problems=readiness.problems,
        ward_state=ward_state,
        ward_settings=ward_settings,
        champion=champion,
        standing=service.standing,
        links={"mlflow": settings.mlflow_url, "feast": settings.feast_url, "evidently": settings.evidently_url},
    )
    versions = ModelVersions(home, champion)
    past_risks = PastRisks(service.task, service.log, journal, service.standing, versions)
    past_assessments = PastRiskAssessments(chart, past_risks, Verifier(journal, service.log, versions))
    telling = Telling(smart.clients.caller, ward_state, journal, directory, lambda: service, service.task.name)
    exports, export_files, people = Exports(connections), ExportFiles(home), People(connections)
    follower = ExportFollower(exports, export_files)
    return ApiComponents(
        access=access,
        alarm_pages=AlarmPages(chart, ward_state, metrics),
        audit=Audit(),
        cds=CdsService(settings.url, chart, service, ward_state, metrics, smart.clients),
        champion=champion,
        chart=chart,
        clock=service.clock,
        directory=directory,
        export_follower=follower,
        exports=ExportService(exports, export_files, directory.base_url, follower.wake),
        fhir=Inbound(
            directory, ingestion, journal, pseudonyms, fhir_observations, fhir_settings.own_codes, ward_state.silences
        ),
        group_commit=group_commit,
        groups=Groups(directory, journal),
        identities=identities,
        ingestion=ingestion,
        journal=journal,
        log=service.log,
        login=open_login(home, settings.url, connections, directory, offers_local_login=settings.local_login),
        metrics=metrics,
        metrics_page=ShortLivedCache(partial(metrics.render, home), _CACHE_SECONDS),
        news2_pages=News2Pages(chart, service, past_assessments),
        observation_pages=ObservationPages(chart, fhir_observations),
        past_risks=past_assessments,
        patient_views=PatientViews(
            chart=chart,
            identities=identities,
            journal=journal,
            log=service.log,
            champion=champion,
            risk_service=service,
            ward_state=ward_state,
            ward_settings=ward_settings,
            people=people,
        ),
        operations=ShortLivedCache(operations_views.common, _OPERATIONS_SECONDS),
        operations_views=operations_views,
        pseudonyms=pseudonyms,
        readiness=ShortLivedCache(readiness.is_ready, _CACHE_SECONDS),
        risk_service=service,
        smart=smart,
        standing_answers=StandingAnswers(service.standing, pseudonyms),
        streams=OpenStreams(),
        subscriptions=SubscriptionService(
            Subscriptions(connections),
            telling,
            fhir_settings,
            pseudonyms.derive(HEADER_PURPOSE),
        ),
        tokens=tokens,
        ward_settings=ward_settings,
        ward_state=ward_state,
        ward_views=WardViews(
            ward_state=ward_state,
            ward_settings=ward_settings,
            identities=identities,
            log=service.log,
            champion=champion,
            standing=service.standing,
            ids=directory.ids,
            people=people,
        ),
    )


@dataclass(frozen=True)
class RescorerComponents:
    """The components of the process that rescores."""

    rescorer: Rescorer
    online_store: OnlineStoreWriter
    champion: Champion
    deliverer: Deliverer


def open_rescorer(settings: Settings, metrics: Metrics) -> RescorerComponents:
    """Return the components of the process that rescores.

    Raises:
        VigilError: a file of the home cannot be used.
    """
    require_packages(settings.home)
    champion = _open_champion(settings, metrics)
    online_store = OnlineStoreWriter(Store(settings.home), metrics)
    rescorer = Rescorer(
        journal=Journal(settings.home),
        ward_state=WardState(settings.home),
        champion=champion,
        task=find_task(settings.task, settings.home),
        log=PredictionLog(settings.home),
        wards=WardSettingsFile(settings.home),
        declared=SourceSettingsFile(settings.home).declarations,
        online_store=online_store,
        metrics=metrics,
    )
    return RescorerComponents(rescorer, online_store, champion, open_deliverer(settings, metrics, champion))


def open_deliverer(settings: Settings, metrics: Metrics, champion: Champion) -> Deliverer:
    """Return what delivers the notifications of subscriptions. The risk service is opened when it is first needed."""
    home, task = settings.home, find_task(settings.task, settings.home)
    connections = open_database(home, connection_tables.SCHEMA)
    pseudonyms, fhir_settings, ward_state = open_pseudonyms(home), FhirSettingsFile(home), WardState(home)
    return Deliverer(
        subscriptions=Subscriptions(connections),
        telling=Telling(
            Clients(home).caller,
            ward_state,
            Journal(home),
            _open_directory(settings, connections, fhir_settings, pseudonyms, Identities(home)),
            cache(partial(open_risk_service, settings, champion, ward_state)),
            task.name,
        ),
        settings=fhir_settings,
        secret=pseudonyms.derive(HEADER_PURPOSE),
        home=home,
        metrics=metrics,
    )


def _open_directory(
    settings: Settings, connections: Engine, fhir_settings: FhirSettingsFile, pseudonyms: Pseudonyms, identities: Identities
) -> Directory:
    return Directory(pseudonyms, identities, FhirNames(connections), fhir_settings, f"{settings.url}{FHIR_BASE}")


def _open_champion(settings: Settings, metrics: Metrics) -> Champion:
    """Return the champion, loaded once the log can tell which it is."""
    champion = Champion(settings.home, settings.task, metrics.set_model)
    configure_logging(champion, settings.log)
    champion.look()
    return champion
