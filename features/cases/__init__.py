"""Cases of the field: what arrives from devices and hospitals, what has to become of it, and why.

:data:`CASES` is the one table of them. A test holds each case against :func:`vigil.features.observations.check`, and
``docs/cases.md`` is generated from it (:mod:`vigil.features.cases.page`). The cases follow reports of people who connect
devices. All values are invented.
"""

from collections.abc import Mapping
from typing import Final

from vigil.features.cases.beside_others import BESIDE_OTHERS
from vigil.features.cases.case import Case
from vigil.features.cases.measures import MEASURES
from vigil.features.cases.times import TIMES

CASES: Final[Mapping[str, tuple[Case, ...]]] = {**MEASURES, **TIMES, **BESIDE_OTHERS}
