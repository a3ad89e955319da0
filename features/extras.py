"""Parts of Vigil that an installation may leave out, and the error that says how to add one."""

from importlib.util import find_spec
from typing import Final, Literal

from vigil.features.errors import VigilError

Extra = Literal["service", "search"]
# The library that tells whether an extra of pyproject.toml is there, and what it is for.
_TOLD_BY: Final[dict[Extra, tuple[str, str]]] = {
    "service": ("mlflow", "homes, models, the server and drift reports"),
    "search": ("optuna", "the search for a better model"),
}


class MissingExtraError(VigilError):
    """What was asked for needs libraries that are not installed."""


def require(extra: Extra) -> None:
    """Check that an extra is installed.

    Raises:
        MissingExtraError: it is not.
    """
    library, purpose = _TOLD_BY[extra]
    if find_spec(library) is None:
        raise MissingExtraError(f"{library} is not installed; {purpose} need more libraries: pip install 'vigil[{extra}]'")
