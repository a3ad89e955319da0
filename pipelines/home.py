"""A home: the directory of one installation, opened once and handed to every job."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from vigil.features.installed import Kind
    from vigil.features.store.client import Store
    from vigil.models.registry import Registry
    from vigil.pipelines.cohort_store import CohortStore

DEFAULT_TASK: Final = "deterioration"  # served where no cohort was ingested


class Home:
    """The directory of one installation; each part of it is opened when it is first used.

    Jobs take a ``Home``. Only the command line makes one from a path. A part is not opened while an installed package that the
    home uses is missing (:class:`vigil.features.installed.PackageError`).

    Attributes:
        path: the directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"Home({str(self.path)!r})"

    # Each import is heavy, and most commands need few of them.

    @cached_property
    def cohort(self) -> "CohortStore":
        """The ingested cohort."""
        from vigil.pipelines.cohort_store import CohortStore

        self._require_packages()
        return CohortStore(self.path)

    @cached_property
    def features(self) -> "Store":
        """The feature store."""
        from vigil.features.store.client import Store

        self._require_packages()
        return Store(self.path)

    @cached_property
    def registry(self) -> "Registry":
        """Runs and models. MLflow makes an empty registry where there is none; see :meth:`existing_registry`."""
        from vigil.models.registry import Registry

        self._require_packages()
        return Registry(self.path)

    def existing_registry(self) -> "Registry":
        """Return the registry of a home that has one.

        Raises:
            NoModelError: the home has none.
        """
        if "registry" not in vars(self):
            from vigil.models.registry import Registry

            self._require_packages()
            self.registry = Registry.open_existing(self.path)
        return self.registry

    def record_use(self, kind: "Kind", names: Iterable[str]) -> None:
        """Record what the home uses of installed packages, so that it is missed where they are."""
        from vigil.features.installed import record_use

        record_use(self.path, kind, names)

    def _require_packages(self) -> None:
        from vigil.features.installed import require_packages

        require_packages(self.path)

    @property
    def reports(self) -> Path:
        """Where reports are written."""
        return self.path / "reports"

    @property
    def served_task(self) -> str:
        """Name of the task that a server of this home answers: the cohort's, or :data:`DEFAULT_TASK` without a cohort."""
        from vigil.pipelines.cohort_store import NoCohortError

        try:
            return self.cohort.task.name
        except NoCohortError:
            return DEFAULT_TASK
