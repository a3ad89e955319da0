"""The table of problem types (RFC 9457): code, status, title, detail and what to do.

:mod:`vigil.serving.api.problems` makes the API's errors from it. The table of errors in ``docs/api.md`` is generated from it.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from vigil.serving.auth.tokens import RULES


class ProblemType(NamedTuple):
    """One kind of error.

    Attributes:
        code: for programs; part of the API.
        status: the HTTP status.
        title: a summary that is the same for each occurrence.
        detail: what is wrong, with placeholders such as ``{limit}``. Never a value or identifier of a patient.
        action: what the caller can do. Markdown, as ``detail`` is: names are in backticks.
    """

    code: str
    status: int
    title: str
    detail: str
    action: str

    def describe(self, **values: object) -> str:
        """Return detail and action of one occurrence as plain text.

        >>> PROBLEM_TYPES["too_many_streams"].describe(limit=20)
        'streams: expected at most 20 open streams of one caller. Close the streams that are no longer read.'
        """
        return f"{self.detail.format(**values)} {self.action}".replace("`", "")


_TYPES: Final = (
    ProblemType(
        "bad_request",
        400,
        "Bad request",
        "`body`: the request cannot be read.",
        "Send a body that `/v1/openapi.json` describes.",
    ),
    *(
        ProblemType(f"token_{rule}", 401, "Unauthorized", f"`token`: {text.expected}", text.action)
        for rule, text in RULES.items()
    ),
    ProblemType(
        "session_missing",
        401,
        "Not logged in",
        "`session`: expected the cookie of a session that has not ended.",
        "Log in at `/login`.",
    ),
    ProblemType(
        "csrf_token_missing",
        403,
        "Not from a page of this server",
        "`csrf_token`: expected that of the session, as a field of the form or in the header `X-CSRF-Token`.",
        "Load the page again. `/login/session` has the token.",
    ),
    ProblemType(
        "out_of_scope",
        403,
        "Missing scope",
        "`token`: expected the scope {scopes}.",
        "Get a token with that scope from the issuer.",
    ),
    ProblemType(
        "not_your_ward",
        403,
        "Another ward",
        "`{field}`: the token covers other wards only.",
        "Get a token for this ward from the issuer, or one that is not restricted to wards.",
    ),
    ProblemType(
        "unknown_patient",
        404,
        "Unknown patient",
        "`patient_id`: neither the feature store nor the journal knows this patient, or the token does not cover the ward.",
        "Check the identifier. Send observations to `/v1/observations`, or ask with them at `/v1/risk/observations`.",
    ),
    ProblemType(
        "not_in_journal",
        404,
        "Unknown patient",
        "`{field}`: the journal knows no such patient.",
        "Check the identifier. Register the patient at `/v1/patients` first.",
    ),
    ProblemType(
        "no_readings",
        404,
        "No observations",
        "`patient_id`: no observation of this patient came over the API.",
        "Check the identifier, or send observations to `/v1/observations`.",
    ),
    ProblemType(
        "unknown_alarm",
        404,
        "Unknown alarm",
        "`alarm_id`: no such alarm in the wards that the token covers.",
        "See the alarms at `/v1/alarms`.",
    ),
    ProblemType(
        "not_found",
        404,
        "Not found",
        "`path`: this server has no such path.",
        "See the paths in `/v1/openapi.json`.",
    ),
    ProblemType(
        "method_not_allowed",
        405,
        "Method not allowed",
        "`method`: this path does not have the method.",
        "See the methods in `/v1/openapi.json`.",
    ),
    ProblemType(
        "as_of_in_the_future",
        409,
        "Time in the future",
        "`as_of`: expected a time at or before the server's present.",
        "Leave `as_of` out to ask about now, or ask as of a past time.",
    ),
    ProblemType(
        "as_of_before_features",
        409,
        "Time before the stored features",
        "`as_of`: the stored features are {hours:.1f} h newer and may hold what was not known then. The journal does not know "
        "the patient.",
        "Ask as of a later time, or send the observations to `/v1/risk/observations`.",
    ),
    ProblemType(
        "already_done",
        409,
        "Already done",
        "`alarm_id`: this alarm was {status} already, perhaps by another caller or for another reason. That stands.",
        "See the actions on the alarm at `/v1/alarms`.",
    ),
    ProblemType(
        "merge_into_itself",
        409,
        "Merge into itself",
        "`{field}`: expected another patient than `patient_id`.",
        "Check both identifiers.",
    ),
    ProblemType(
        "merge_cycle",
        409,
        "Merge in a circle",
        "`{field}`: this patient was merged into `patient_id`, perhaps over others, and counts for them already.",
        "Unmerge this one first, if the other is to survive.",
    ),
    ProblemType(
        "merged_elsewhere",
        409,
        "Merged into another patient",
        "`{field}`: this patient was merged into another one than `into`. Which of both is right is not known here.",
        "Unmerge the patient first, or merge the one that they were merged into.",
    ),
    ProblemType(
        "never_merged",
        409,
        "Never merged",
        "`{field}`: this patient was never merged into another one.",
        "Check the identifier: expected the one that was replaced, not the surviving one.",
    ),
    ProblemType(
        "already_over",
        409,
        "Already over",
        "`{field}`: expected a time after the one at which the terms would be recorded.",
        "Leave `until` out, or send a later time. Check both clocks.",
    ),
    ProblemType(
        "limits_cross",
        409,
        "Limits cross",
        "`{field}`: expected the low limit of a signal below its high one; so each value would sound an alarm.",
        "Correct the limits.",
    ),
    ProblemType(
        "body_too_large",
        413,
        "Body too large",
        "`body`: expected at most {limit} bytes.",
        "Send fewer observations or patients in one request.",
    ),
    ProblemType(
        "encoded_body",
        415,
        "Encoded body",
        "`Content-Encoding`: expected a body that is not compressed.",
        "Send the body uncompressed, without this header.",
    ),
    ProblemType(
        "invalid_request",
        422,
        "Invalid request",
        "The request does not fit the schema at `/v1/openapi.json` in {count} places. The first {listed} are in `errors`.",
        "Correct them. For a misspelt field `errors` names the most similar one, for broken JSON the position.",
    ),
    ProblemType(
        "unusable_observations",
        422,
        "Unusable observations",
        "`observations`: {count} of this request to `/v1/risk/observations` cannot be used, so no risk was computed. The first "
        "{listed} are in `errors`.",
        "Correct them, or leave them out.",
    ),
    ProblemType(
        "too_many_requests",
        429,
        "Too many requests",
        "`requests`: expected at most {limit} a second of one caller.",
        "Wait for `Retry-After`. Send several observations or patients in one request.",
    ),
    ProblemType(
        "too_much_at_a_time",
        429,
        "Too much at a time",
        "`requests`: expected at most {limit:g} s of computing to wait of one caller: risks that have to be made, histories, "
        "anomalies and summaries.",
        "Wait for `Retry-After`, and for some answers. A risk that stands is read, and needs no computing.",
    ),
    ProblemType(
        "too_many_refusals",
        429,
        "Too many refusals",
        "`requests`: ten within a minute were for patients of wards that the token does not cover.",
        "Wait a minute. Send requests for patients of your wards only.",
    ),
    ProblemType(
        "too_many_streams",
        429,
        "Too many streams",
        "`streams`: expected at most {limit} open streams of one caller.",
        "Close the streams that are no longer read.",
    ),
    ProblemType(
        "unexpected_error",
        500,
        "Unexpected error",
        "The server has failed.",
        "Tell its operator: its log says where, without patient data.",
    ),
    ProblemType(
        "overloaded",
        503,
        "Overloaded",
        "`observations`: more arrive than can be written. Nothing of this request was stored.",
        "Send it again after `Retry-After`.",
    ),
    ProblemType(
        "busy",
        503,
        "Busy",
        "`requests`: more is asked than can be answered soon. Nothing was computed.",
        "Ask again after `Retry-After`.",
    ),
    ProblemType(
        "unavailable",
        503,
        "Unavailable",
        "A store that the answer needs cannot be used now.",
        "Try again later.",
    ),
    ProblemType(
        "no_keys",
        503,
        "Signing keys unavailable",
        "`token`: the issuer's signing keys are unavailable, so no token can be verified.",
        "Try again after `Retry-After`.",
    ),
)
PROBLEM_TYPES: Final[Mapping[str, ProblemType]] = {each.code: each for each in _TYPES}

_PLACEHOLDER: Final = re.compile(r"`?{(\w+)[^}]*}`?")
_ITALIC: Final = r"*\1*"


def problem_table() -> str:
    """Return the table of problem types in Markdown, for the documents. Placeholders are in italics."""
    rows = [
        f"| {each.status} | `{each.code}` | {_PLACEHOLDER.sub(_ITALIC, each.detail)} | {each.action} |"
        for each in PROBLEM_TYPES.values()
    ]
    return "\n".join(["| status | code | what is wrong | what to do |", "| --- | --- | --- | --- |", *rows])
