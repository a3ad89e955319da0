"""The base of every error that a user can mend."""

from typing import ClassVar


class VigilError(Exception):
    """Its message names the field, the rule, what was expected and what to do; the command line prints it alone.

    Attributes:
        exit_status: of a command that ends with it.
    """

    exit_status: ClassVar[int] = 2
