"""A quicker import of Feast."""

import contextlib
from collections.abc import Iterator
from typing import TypeVar

T = TypeVar("T")


@contextlib.contextmanager
def without_type_checks() -> Iterator[None]:
    """Import Feast without the type checks that typeguard would write into its classes.

    Rewriting the source of some 40 modules takes three of the four seconds of the import, and makes each call slower. Python
    with ``-O`` leaves it out too.
    """
    import typeguard

    checked = typeguard.typechecked
    typeguard.typechecked = _unchecked  # type: ignore[assignment]
    try:
        yield
    finally:
        typeguard.typechecked = checked


def _unchecked(target: T) -> T:
    return target
