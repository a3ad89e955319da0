"""The tables of ``connections.db``: what Vigil remembers about the systems that it talks with."""

from typing import Final

import sqlalchemy as sa

from vigil.serving.records.database import Digest, Schema

METADATA: Final = sa.MetaData()
SCHEMA: Final = Schema("connections", METADATA, revision="0007")

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
    sa.Column("observed_at", sa.BigInteger),  # of all of them; null: it has none
    sa.Column("source", sa.String),  # whose readings they are: the sub of the client; null, as below: of an earlier version
    sa.Column("content", sa.String),  # digest of what the client said
    sa.Column("status", sa.String),  # of R4
    sa.Column("number", sa.BigInteger),  # of the version in the journal; null, too: an original
    sa.Index("fhir_observations_observed_at", "subject_id", "observed_at"),
)
EXPORTS: Final = sa.Table(  # of many resources at once, that clients asked for
    "exports",
    METADATA,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("client", sa.String, nullable=False, index=True),  # who asked: the sub of the token
    sa.Column("request", sa.String, nullable=False),  # the URL, without what is not understood
    sa.Column("wards", sa.JSON(none_as_null=True)),  # of the patients; null: all
    sa.Column("types", sa.JSON, nullable=False),  # of resources
    sa.Column("filters", sa.JSON, nullable=False),  # of Observations: queries, one of which has to match
    sa.Column("since", sa.BigInteger),  # null: everything
    sa.Column("ignored", sa.JSON, nullable=False),  # names of parameters that were not understood
    sa.Column("status", sa.String, nullable=False),  # waiting, running, complete, failed
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False),
    sa.Column("progress", sa.String, nullable=False),
    sa.Column("problem", sa.String),  # why it failed, and what to do
    sa.Column("as_of", sa.BigInteger),  # the time of the journal that the files tell of
    sa.Column("files", sa.JSON, nullable=False),  # [{"list": ..., "type": ..., "name": ..., "count": ...}, ...]
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
PEOPLE: Final = sa.Table(  # who have logged in
    "people",
    METADATA,
    sa.Column("sub", sa.String, primary_key=True),  # as the actions on alarms have it
    sa.Column("name", sa.String, nullable=False),  # as the issuer gave it last
    sa.Column("seen_at", sa.BigInteger, nullable=False, index=True),  # of the latest login
)
SUBSCRIPTIONS: Final = sa.Table(  # of FHIR clients; what the client wants, and how far it has been told
    "subscriptions",
    METADATA,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("client", sa.String, nullable=False, index=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    sa.Column("topic", sa.String, nullable=False),
    sa.Column("filters", sa.JSON, nullable=False),  # [[name, [value, ...]], ...]; patients by subject key
    sa.Column("wards", sa.JSON(none_as_null=True)),  # that the client might see when it wrote this; null: all
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("ends_at", sa.BigInteger),
    sa.Column("endpoint", sa.String, nullable=False),
    sa.Column("sealed_header", sa.LargeBinary),  # encrypted, since it holds secrets
    sa.Column("content", sa.String, nullable=False),
    sa.Column("heartbeat", sa.Integer),  # seconds
    sa.Column("timeout", sa.Integer),
    sa.Column("max_count", sa.Integer),
    sa.Column("status", sa.String, nullable=False),
    sa.Column("error", sa.String),
    sa.Column("confirmed", sa.Boolean, nullable=False),  # by an answer to the handshake
    sa.Column("positions", sa.JSON, nullable=False),  # number of the last event that was looked at, by ward
    sa.Column("numbered", sa.Integer, nullable=False),  # events so far
    sa.Column("delivered", sa.Integer, nullable=False),  # the last of them that the endpoint took, or that was passed over
    sa.Column("lost", sa.Integer, nullable=False),  # of them, deleted before the endpoint took them
)
SUBSCRIPTION_EVENTS: Final = sa.Table(  # what each subscription is told, by number; the events are in the ward state
    "subscription_events",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("subscription_id", sa.String, nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("ward", sa.String),  # null, as the number: events that were deleted before they had a number
    sa.Column("ward_number", sa.Integer),
    sa.Column("at", sa.BigInteger, nullable=False, index=True),
    sa.UniqueConstraint("subscription_id", "number"),
)
