"""Cases of the field: what arrives from devices and hospitals, what has to become of it, and why.

:data:`CASES` is the one table of them. A test holds each case against :func:`features.observations.check`, and
``docs/cases.md`` is generated from it (:mod:`features.cases.page`). The cases follow reports of people who connect devices. All
values are invented.
"""

from collections.abc import Mapping
from typing import Final

from features.cases.beside_others import BESIDE_OTHERS
from features.cases.case import Case
from features.cases.measures import MEASURES
from features.cases.times import TIMES

CASES: Final[Mapping[str, tuple[Case, ...]]] = {**MEASURES, **TIMES, **BESIDE_OTHERS}
