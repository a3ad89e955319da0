"""The base of every error that a user can mend."""


class VigilError(Exception):
    """Its message names the field, the rule, what was expected and what to do; the command line prints it alone."""
