"""An issuer, and a server that trusts it."""

import pytest

from serving.auth import Tokens
from serving.token_keys import ALGORITHMS
from tests.serving.tokens import AUDIENCE, ISSUER, Clock, Signer, write_jwks


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
    return Tokens(issuer=ISSUER, audience=AUDIENCE, jwks=jwks, clock=clock)
