"""The base class of all errors that a user can correct."""

from typing import ClassVar


class VigilError(Exception):
    """Base class of errors that a user can correct.

    The message names the field and the rule, says what was expected, and says what to do. The command line prints only the
    message.

    Attributes:
        exit_status: Exit status of a command that ends with this error.
    """

    exit_status: ClassVar[int] = 2
