"""What the token endpoint needs: the registered clients, the assertions they have used, and the key that signs tokens."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from vigil.serving.auth.local_tokens import KEY_FILE, LOCAL_FOLDER, create_local_keys
from vigil.serving.records.used_assertions import UsedAssertions
from vigil.serving.smart.assertions import AssertionVerifier
from vigil.serving.smart.clients import Clients

CONFIGURATION_PATH: Final = "/fhir/.well-known/smart-configuration"
TOKEN_PATH: Final = "/auth/token"  # noqa: S105 - a path
TOKEN_SECONDS: Final = 300  # as SMART App Launch 2.2 recommends at most


@dataclass(frozen=True)
class SmartService:
    """The token endpoint of one home.

    Attributes:
        token_url: as clients call it, and name it in their assertions.
        clients: the registered clients.
        assertions: verifies who a client is.
        key: PEM of the private key that signs the tokens.
    """

    token_url: str
    clients: Clients
    assertions: AssertionVerifier
    key: bytes


def open_smart(home: Path, url: str, connections: sa.Engine) -> SmartService:
    """Return the token endpoint of a home that others reach at ``url``.

    Raises:
        VigilError: a file of the home cannot be used.
    """
    create_local_keys(home / LOCAL_FOLDER)
    token_url = f"{url}{TOKEN_PATH}"
    clients = Clients(home)
    verifier = AssertionVerifier(clients, UsedAssertions(connections))
    return SmartService(token_url, clients, verifier, (home / LOCAL_FOLDER / KEY_FILE).read_bytes())
