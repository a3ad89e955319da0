"""Why a login is refused."""

from vigil.features.errors import VigilError


class LoginError(VigilError):
    """A login that is refused.

    Attributes:
        rule: what failed, in a word, for the log. The message is for the person, and holds nothing that was sent.
        status: of HTTP.
    """

    def __init__(self, rule: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.rule, self.status = rule, status
