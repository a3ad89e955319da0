"""Fixtures: peers in environments of their own. What cannot be had here skips a test, but not in CI."""

import json
import os

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from tests.system.peers.environments import PeerError, command, python_of
from vigil.serving.smart.clients import FILE as CLIENTS


@pytest.fixture(scope="session")
def peer():
    """``peer(name, program)``: the command of a peer's program; ``peer(name)``: its interpreter. It is made by then."""

    def find(name, program=None):
        try:
            return str(python_of(name)) if program is None else command(name, program)
        except PeerError as error:
            if os.environ.get("VIGIL_COHORTS_REQUIRED"):
                pytest.fail(f"the peer {name} is required here: {error}")
            pytest.skip(f"the peer {name}: {error}")

    return find


@pytest.fixture(scope="module")
def registered(served_home, tmp_path_factory):
    """``registered(name, scopes)``: register a client with a key of its own; returns the file of the key, PEM, and its kid.

    Beside the file is the same key as a JWKS, ``.jwks``.
    """
    folder = tmp_path_factory.mktemp("clients")
    clients = served_home / CLIENTS
    before = clients.read_text() if clients.exists() else ""

    def register(name, scopes):
        key = rsa.generate_private_key(65537, 2048)
        jwk = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": name, "alg": "RS384", "use": "sig"}
        (served_home / f"{name}.jwks.json").write_text(json.dumps({"keys": [jwk]}))
        pem = folder / f"{name}.pem"
        plain = serialization.NoEncryption()
        pem.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
        private = RSAAlgorithm.to_jwk(key, as_dict=True) | {"kid": name, "alg": "RS384", "key_ops": ["sign"]}
        pem.with_suffix(".jwks").write_text(json.dumps({"keys": [private]}))
        own = f'[clients."{name}"]\nkeys = "{name}.jwks.json"\nscopes = {json.dumps(scopes)}\n'
        clients.write_text((clients.read_text() if clients.exists() else "") + own)
        return pem, name

    yield register
    clients.write_text(before)


@pytest.fixture(scope="session")
def capabilities(server):
    """What the server offers, by type of resource, as its CapabilityStatement says; of the whole server under ``""``."""
    rest = httpx.get(f"{server}/fhir/metadata").raise_for_status().json()["rest"][0]
    return {resource["type"]: resource for resource in rest["resource"]} | {"": rest}
