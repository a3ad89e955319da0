"""Refusals of what was to be recorded of a patient, as problems of the API."""

from collections.abc import Iterator
from contextlib import contextmanager

from vigil.serving.api import problems
from vigil.serving.api.problems import ProblemError
from vigil.serving.auth.access import OtherWardError, TooManyRefusalsError
from vigil.serving.records.not_recorded import NotRecordedError


@contextmanager
def as_problems(field: str = "patient_id") -> Iterator[None]:
    """Turn refusals into problems that name the field of the patients, or the one that is wrong."""
    try:
        yield
    except NotRecordedError as error:
        raise ProblemError(problems.not_recorded(error)) from None
    except OtherWardError:
        raise ProblemError(problems.not_your_ward(field)) from None
    except TooManyRefusalsError:
        raise ProblemError(problems.too_many_refusals()) from None
