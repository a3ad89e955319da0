"""Fixtures: an issuer, and a server that trusts it; and callers of the small ward's server, which trusts its own tokens."""

import time
from datetime import timedelta

import httpx
import pytest

from tests.support.tokens import AUDIENCE, ISSUER, Clock, Signer, write_jwks
from vigil.pipelines.home import DEFAULT_TASK, Home
from vigil.pipelines.operations.server import running_server
from vigil.serving.auth.jwks import ALGORITHMS
from vigil.serving.auth.local_tokens import create_local_token
from vigil.serving.auth.tokens import SCOPES, TokenVerifier


@pytest.fixture(scope="session")
def signers():
    return {algorithm: Signer(algorithm, f"{algorithm}-key") for algorithm in ALGORITHMS}


@pytest.fixture(scope="session")
def signer(signers):
    return signers["ES256"]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def jwks(tmp_path, signers):
    return write_jwks(tmp_path / "jwks.json", *(signer.jwk() for signer in signers.values()))


@pytest.fixture
def tokens(jwks, clock):
    return TokenVerifier(issuer=ISSUER, audience=AUDIENCE, jwks=jwks, clock=clock)


@pytest.fixture(scope="session")
def served_home(ward_backup, tmp_path_factory):
    """Path of the home that :func:`server` serves, a copy of the trained ward."""
    from vigil.pipelines.operations.restore import restore

    folder = tmp_path_factory.mktemp("served") / "home"
    restore(ward_backup, Home(folder))
    return folder


@pytest.fixture(scope="session")
def server(served_home):
    """URL of a prediction server on that ward's champion."""
    with running_server(Home(served_home), DEFAULT_TASK) as url:
        yield url


@pytest.fixture(scope="module")
def easily_alarmed(served_home):
    """Name of a ward in which every risk sounds an alarm."""
    from vigil.serving.records.ward_settings import FILE as WARDS

    wards = served_home / WARDS
    before = wards.read_bytes() if wards.exists() else None
    wards.write_text("[wards.easily_alarmed]\nthreshold = 0.0001\nalarms_per_patient_day = 100\n")
    time.sleep(2.5)  # the rescorer reads the settings once a second
    yield "easily_alarmed"
    if before is None:
        wards.unlink()
    else:
        wards.write_bytes(before)


@pytest.fixture(scope="session")
def token_of(served_home):
    """A token of that home: ``token_of(scopes, wards)``, all where none are named."""

    def token(scopes=tuple(SCOPES), wards=None, subject="tests"):
        return create_local_token(served_home, subject=subject, scopes=scopes, wards=wards, lifetime=timedelta(hours=1))

    return token


@pytest.fixture(scope="session")
def caller(server, token_of):
    """A client of the small ward's server: ``caller(scopes, wards)``."""
    clients = []

    def client(*terms, **more):
        headers = {"Authorization": f"Bearer {token_of(*terms, **more)}"}
        clients.append(httpx.Client(base_url=server, timeout=30, headers=headers))
        return clients[-1]

    yield client
    for client_ in clients:
        client_.close()


@pytest.fixture(scope="session")
def spare(home, tmp_path_factory):
    """URL and home of a server that tests may change: a copy of the small ward."""
    from tests.soak.home import copy_home

    folder = copy_home(home, tmp_path_factory.mktemp("spare") / "home")
    with running_server(Home(folder), DEFAULT_TASK) as url:
        yield url, folder
