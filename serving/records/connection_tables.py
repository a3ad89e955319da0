"""The tables of ``connections.db``: what Vigil remembers about the systems that it talks with."""

from typing import Final

import sqlalchemy as sa

from vigil.serving.records.database import Digest, Schema

METADATA: Final = sa.MetaData()
SCHEMA: Final = Schema("connections", METADATA, revision="0003")

USED_ASSERTIONS: Final = sa.Table(
    "used_assertions",
    METADATA,
    sa.Column("digest", Digest, primary_key=True),  # of the client and the assertion's jti; of what a login uses once
    sa.Column("until", sa.BigInteger, nullable=False),  # seconds since 1970: expired for everyone from then on
)
FHIR_NAMES: Final = sa.Table(  # by which FHIR clients know patients, beside the patient identifier
    "fhir_names",
    METADATA,
    sa.Column("name", sa.String, primary_key=True),  # a pseudonym, as names may identify
    sa.Column("subject_id", sa.String, nullable=False, index=True),
    sa.Column("recorded_at", sa.BigInteger, nullable=False),  # microseconds UTC, as all times below
)
FHIR_OBSERVATIONS: Final = sa.Table(  # that FHIR clients sent, so that they can read, correct and retract them by id
    "fhir_observations",
    METADATA,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("subject_id", sa.String, nullable=False, index=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    sa.Column("deleted", sa.Boolean, nullable=False),
    sa.Column("readings", sa.JSON, nullable=False),  # [[message, signal, observed_at], ...]
)
SESSIONS: Final = sa.Table(  # of people who have logged in
    "sessions",
    METADATA,
    sa.Column("digest", Digest, primary_key=True),  # of the content of the cookie
    sa.Column("sub", sa.String, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("scopes", sa.JSON, nullable=False),
    sa.Column("wards", sa.JSON(none_as_null=True)),  # null: all
    sa.Column("context", sa.JSON, nullable=False),  # of the launch: patient (a subject key), encounter (a pseudonym)
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("used_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False),
)
