"""The import of Feast without the type checks that it adds to its classes.

Feast decorates its classes with ``typeguard.typechecked``, which reads and recompiles their source at every import. That is
nine tenths of the import's time, about 3 s of a processor in each process of a server. typeguard says that the checks "aren't
meant to be run in production". They would check the arguments that Vigil passes, which mypy and the tests do.
"""

import threading
from types import ModuleType
from typing import Any, Final

import typeguard

_LOCK: Final = threading.Lock()


def import_feast() -> ModuleType:
    """Import Feast at the first call. Call it before any other import of Feast."""
    with _LOCK:
        typechecked = typeguard.typechecked
        typeguard.typechecked = _leave_unchecked  # type: ignore[assignment]
        try:
            import feast
        finally:
            typeguard.typechecked = typechecked
    return feast  # type: ignore[no-any-return]


def _leave_unchecked(target: Any) -> Any:
    """Return a class as it is. It stands for ``typechecked`` during the import."""
    return target
