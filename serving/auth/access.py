"""What a caller may see and do: wards, patients, and how often."""

import logging
from collections.abc import Collection, Iterable
from datetime import timedelta
from typing import Final

from vigil.features.errors import VigilError
from vigil.serving.auth.rate import RateLimit
from vigil.serving.auth.tokens import Caller
from vigil.serving.records.journal import UNASSIGNED, Journal
from vigil.serving.records.timestamps import present

logger = logging.getLogger("vigil.serving")

_RESERVATION: Final = timedelta(hours=1)  # a registration without an observation holds a patient for so long
_REFUSALS_A_MINUTE: Final = 10  # of one caller


class OtherWardError(VigilError):
    """Some patients of a request are in wards that the caller may not act for. It does not say which."""


class TooManyRefusalsError(VigilError):
    """A caller was refused patients of other wards again and again, and must wait."""


class Access:
    """Decides what callers may see. Where patients are is known by the journal."""

    def __init__(self, journal: Journal, requests_per_second: int) -> None:
        self._journal = journal
        self._requests = RateLimit(requests_per_second)
        self._refusals = RateLimit(_REFUSALS_A_MINUTE, seconds=60)
        self.requests_per_second = requests_per_second

    def is_within_rate(self, caller: Caller) -> bool:
        """Count one request of a caller, and return whether the caller keeps the rate limit."""
        return self._requests.hit(caller.sub)

    def invisible_subjects(self, caller: Caller, subjects: Iterable[str]) -> set[str]:
        """Return the subjects that a caller may not see: the caller is restricted to wards, and they are elsewhere."""
        if caller.wards is None:
            return set()
        return {subject for subject, ward in self._journal.wards_of(subjects).items() if not caller.can_see(ward)}

    def require_visible(self, caller: Caller, subjects: Iterable[str]) -> None:
        """Refuse a request for subjects of other wards.

        Raises:
            OtherWardError: some of them are there.
            TooManyRefusalsError: the caller was refused too often within a minute.
        """
        self._require_patience(caller)
        self._refuse(caller, self.invisible_subjects(caller, subjects))

    def require_movable(self, caller: Caller, subjects: Iterable[str]) -> None:
        """Refuse a request that would move subjects out of other wards. An unassigned subject can be moved into any ward.

        A ward that registered a subject without any observation holds it for an hour only: one ward could reserve all patients
        of the others.

        Raises:
            OtherWardError: another ward has some of them.
            TooManyRefusalsError: the caller was refused too often within a minute.
        """
        self._require_patience(caller)
        if caller.wards is None:
            return
        elsewhere = {
            subject
            for subject, ward in self._journal.wards_of(subjects).items()
            if ward != UNASSIGNED and not caller.can_see(ward)
        }
        observed = self._journal.latest_of(sorted(elsewhere)).keys()
        reserved = self._journal.registered_since(elsewhere, present() - _RESERVATION)
        self._refuse(caller, (elsewhere & observed) | reserved)

    def require_mergeable(self, caller: Caller, subjects: Iterable[str]) -> None:
        """Refuse a request that would merge or unmerge subjects, unless each is unassigned or in a ward of the caller.

        A merged subject is where its survivor is, and where it was registered itself: both count.

        Raises:
            OtherWardError: another ward has some of them.
            TooManyRefusalsError: the caller was refused too often within a minute.
        """
        self._require_patience(caller)
        wanted = list(subjects)
        wards = [self._journal.wards_of(wanted), self._journal.registered_wards_of(wanted)]
        self._refuse(
            caller,
            {
                subject
                for subject in wanted
                if any(own[subject] != UNASSIGNED and not caller.can_see(own[subject]) for own in wards)
            },
        )

    def _require_patience(self, caller: Caller) -> None:
        if caller.wards is not None and not self._refusals.has_room(caller.sub):
            raise TooManyRefusalsError("too many requests for patients of other wards")

    def _refuse(self, caller: Caller, subjects: Collection[str]) -> None:
        """Refuse, where there are such subjects. Each refusal tells that a patient exists, so they are counted."""
        if subjects:
            logger.warning("caller %s was refused: a patient is in a ward outside of the caller's token", caller.sub)
            self._refusals.hit(caller.sub)
            raise OtherWardError("patients of other wards")
