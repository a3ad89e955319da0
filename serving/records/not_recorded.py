"""Why a merge, an unmerge or terms of a patient are not recorded."""

from typing import Literal

from vigil.features.errors import VigilError

Rule = Literal[
    "not_in_journal", "merge_into_itself", "merge_cycle", "merged_elsewhere", "never_merged", "already_over", "limits_cross"
]


class NotRecordedError(VigilError):
    """A merge, an unmerge or terms of a patient cannot be recorded like that.

    Attributes:
        rule: that forbids it, also the code of the problem that the API answers.
        field: what is wrong, such as ``patient_id`` or ``into``.
    """

    def __init__(self, rule: Rule, field: str) -> None:
        super().__init__(f"{field}: {rule}")
        self.rule = rule
        self.field = field
