"""The tables of the journal. Only the modules beside this one read or write them."""

from typing import Final

import sqlalchemy as sa

from vigil.serving.records.database import Digest

METADATA: Final = sa.MetaData()

REGISTRATIONS: Final = sa.Table(  # what is known of a subject, from when on: rows are added, never changed
    "registrations",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("subject_id", sa.String, nullable=False, index=True),
    sa.Column("recorded_at", sa.BigInteger, nullable=False, index=True),  # microseconds UTC, as all times here
    sa.Column("ward", sa.String, nullable=False),
    sa.Column("age", sa.Float),
    sa.Column("sex", sa.Float),
    sa.Column("unit_admitted_at", sa.BigInteger),
    sa.Column("hospital_admitted_at", sa.BigInteger),
    sa.Column("discharged", sa.Boolean, nullable=False),
    sa.Column("pregnant", sa.Boolean),  # null: unknown
)
MERGES: Final = sa.Table(  # which subject counts for which other one, from when on (serving.records.merges): rows are added
    "merges",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("recorded_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("subject_id", sa.String, nullable=False, index=True),
    sa.Column("into", sa.String, index=True),  # null: it counts for itself again
)
TERMS: Final = sa.Table(  # of single patients (models.alarms.patient_terms), from when on: rows are added, never changed
    "terms",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("recorded_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("subject_id", sa.String, nullable=False, index=True),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("because", sa.String, nullable=False),
    sa.Column("until", sa.BigInteger, index=True),  # null: until others replace them
    sa.Column("spo2_scale", sa.Integer, nullable=False),
    sa.Column("alarm_threshold", sa.Float),  # null, as the next one: the ward's
    sa.Column("news2_alarm_from", sa.Integer),
    sa.Column("limits", sa.JSON, nullable=False),  # {signal: {"low": ..., "high": ...}}
)
SERIES: Final = sa.Table(  # what an observation is of; deleted with the last observation
    "series",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("subject_id", sa.String, nullable=False),
    sa.Column("signal", sa.String, nullable=False),
    sa.UniqueConstraint("subject_id", "signal", name="one_series"),
)
SENDERS: Final = sa.Table(  # who sent it; what is not said is empty
    "senders",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("source", sa.String, nullable=False),
    sa.Column("device_id", sa.String, nullable=False),
    sa.UniqueConstraint("source", "device_id", name="one_sender"),
)
OBSERVATION_ROWS: Final = sa.Table(  # there are more of them than of anything else, so they refer to texts by number
    "observations",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),  # ascends with recorded_at
    sa.Column("series", sa.Integer, nullable=False),
    sa.Column("observed_at", sa.BigInteger, nullable=False),
    sa.Column("value", sa.Float, nullable=False),
    sa.Column("recorded_at", sa.BigInteger, nullable=False),
    sa.Column("sender", sa.Integer, nullable=False),
    # The beginning of the digest of what its versions have in common (features.revisions.ORIGIN), enough to tell them apart
    # within a series; of a derived observation with a suffix. Null: an early version of Vigil stored none.
    sa.Column("origin", Digest),
    # Digest of MESSAGE_KEY where series, observed_at and origin do not tell it: the time that was sent was ahead of the clock,
    # so that of the group was stored, or there is no origin.
    sa.Column("message", Digest),
    sa.Column("version", sa.Integer),  # null: the original
    sa.Column("superseded_at", sa.BigInteger),  # from when on a newer version counts in its place
)
_COUNTS: Final = OBSERVATION_ROWS.c.superseded_at.is_(None)  # of versions, one counts: contents are unique among those
_HAS_MESSAGE: Final = OBSERVATION_ROWS.c.message.is_not(None) & _COUNTS
sa.Index(
    "observations_message", OBSERVATION_ROWS.c.message, unique=True, sqlite_where=_HAS_MESSAGE, postgresql_where=_HAS_MESSAGE
)
sa.Index(
    "observations_content",
    *(OBSERVATION_ROWS.c[name] for name in ("series", "observed_at", "value")),
    unique=True,
    sqlite_where=_COUNTS,
    postgresql_where=_COUNTS,
)
sa.Index("observations_superseded_at", OBSERVATION_ROWS.c.superseded_at, sqlite_where=~_COUNTS, postgresql_where=~_COUNTS)
sa.Index("observations_superseded", OBSERVATION_ROWS.c.series, sqlite_where=~_COUNTS, postgresql_where=~_COUNTS)


def is_milestone(rows: sa.FromClause = OBSERVATION_ROWS) -> sa.ColumnElement[bool]:
    """Return the condition that a row is one in 64, those whose time of recording is in an index."""
    # Literals: SQLite uses a partial index only where the query repeats its condition to the letter.
    return rows.c.seq.op("&")(sa.literal_column("63")) == sa.literal_column("0")


sa.Index(
    "observations_milestones",
    OBSERVATION_ROWS.c.recorded_at,
    sqlite_where=is_milestone(),
    postgresql_where=is_milestone(),
)
OBSERVATIONS: Final = (  # each observation as a whole
    sa.select(
        OBSERVATION_ROWS.c.seq,
        SERIES.c.subject_id,
        SERIES.c.signal,
        OBSERVATION_ROWS.c.observed_at,
        OBSERVATION_ROWS.c.value,
        OBSERVATION_ROWS.c.recorded_at,
        sa.func.nullif(SENDERS.c.device_id, "").label("device_id"),
        sa.func.nullif(SENDERS.c.source, "").label("source"),
        *(OBSERVATION_ROWS.c[name] for name in ("message", "origin", "version", "superseded_at")),
    )
    .join(SERIES, SERIES.c.id == OBSERVATION_ROWS.c.series)
    .join(SENDERS, SENDERS.c.id == OBSERVATION_ROWS.c.sender)
    .subquery("whole_observations")
)
REVISIONS: Final = sa.Table(  # corrections and retractions, in the order in which they became known
    "revisions",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("recorded_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("subject_id", sa.String, nullable=False, index=True),
    sa.Column("origin", Digest, nullable=False, index=True),
    sa.Column("identity_at", sa.BigInteger),  # observed_at that names the observation, where its message holds several
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("is_retracted", sa.Boolean, nullable=False),
    sa.Column("observed_at", sa.BigInteger),
    sa.Column("value", sa.Float),  # what this version says; null: nothing, it retracts
    sa.Column("signal", sa.String),  # of which it says that: the measured one, or one of its bounds; null: an earlier version
)
QUARANTINE: Final = sa.Table(
    "quarantine",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("recorded_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("subject_id", sa.String),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("observation", sa.String, nullable=False),  # JSON, as the sender wrote it
    sa.Column("digest", Digest, nullable=False, unique=True),  # of all of it: sent again it is stored no second time
    sa.Column("readmitted_at", sa.BigInteger),  # when it was taken after all, by what its source declared since
)
READMISSIONS: Final = sa.Table(  # who decided to take what had been quarantined, and why
    "readmissions",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("recorded_at", sa.BigInteger, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("declarations", sa.String, nullable=False),  # sources.toml as it was, JSON
    sa.Column("observations", sa.Integer, nullable=False),
)
REPETITIONS: Final = sa.Table(  # observations of a group that were stored before: how many, of which subject, from which device
    "repetitions",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("recorded_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("subject_id", sa.String, nullable=False),
    sa.Column("signal", sa.String, nullable=False),
    sa.Column("device_id", sa.String),
    sa.Column("source", sa.String),
    sa.Column("times", sa.Integer, nullable=False),
)
LATEST: Final = sa.Table(  # when the last group was recorded that changed what counts for each subject
    "latest",
    METADATA,
    sa.Column("subject_id", sa.String, primary_key=True),
    sa.Column("recorded_at", sa.BigInteger, nullable=False),
)
GROUP_TIME: Final = sa.Table(  # one row: the time of the last group
    "group_time",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("recorded_at", sa.BigInteger, nullable=False),
)
RETENTIONS: Final = sa.Table(  # from each row on, observations recorded before a time count no more
    "retentions",
    METADATA,
    sa.Column("recorded_at", sa.BigInteger, primary_key=True),
    sa.Column("before", sa.BigInteger, nullable=False),
    sa.Column("observations", sa.Integer, nullable=False),
)
OTHERS_RECORDED: Final = (
    REVISIONS,
    REGISTRATIONS,
    MERGES,
    TERMS,
    QUARANTINE,
    REPETITIONS,
    LATEST,
    RETENTIONS,
)  # tables with a time of recording, beside the observations
