"""Fixtures: peers in environments of their own. What cannot be had here skips a test, but not in CI."""

import os

import pytest

from tests.system.peers.environments import PeerError, command


@pytest.fixture(scope="session")
def peer():
    """``peer(name, program)``: the command of a peer's program, whose environment is made by then."""

    def command_of(name, program):
        try:
            return command(name, program)
        except PeerError as error:
            if os.environ.get("VIGIL_COHORTS_REQUIRED"):
                pytest.fail(f"the peer {name} is required here: {error}")
            pytest.skip(f"the peer {name}: {error}")

    return command_of


@pytest.fixture(scope="session")
def capabilities(server):
    """What the server offers: interactions and operations by type of resource, as its CapabilityStatement says."""
    import httpx

    rest = httpx.get(f"{server}/fhir/metadata").raise_for_status().json()["rest"][0]
    return {resource["type"]: resource for resource in rest["resource"]} | {"": rest}
