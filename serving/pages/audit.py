"""Who looked at what: every view of a page is reported here, before it is sent.

Today a view is a line of the log, with who, which page and how many patients: no line names a patient. An audit trail that
keeps them takes the place of :class:`Audit`.
"""

import logging
from collections.abc import Collection
from typing import Final, Literal

from vigil.serving.auth.tokens import Caller

logger: Final = logging.getLogger("vigil.audit")

Page = Literal["wards", "ward", "ward live", "patient", "summary", "glucose", "document", "operations"]


class Audit:
    """Takes reports of views."""

    def viewed(self, caller: Caller, page: Page, subjects: Collection[str]) -> None:
        """Report that a caller is about to be shown patients.

        Args:
            caller: who looks.
            page: at what.
            subjects: keys of the patients shown.
        """
        logger.info("%s viewed %s: %d patients", caller.sub, page, len(subjects))
