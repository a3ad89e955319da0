"""The model in use: the champion of a task, followed when the alias moves, and when it is withdrawn or reinstated.

A new champion is loaded beside the one in use and takes its place in one assignment: a request that has begun ends with the
model it began with, and none waits. Where there is no model, or it was withdrawn, the answer says so and gives NEWS2.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from vigil.features.catalogue import SERVICES
from vigil.features.errors import VigilError
from vigil.models.registry import CHAMPION, NoModelError, RegisteredModel, Registry
from vigil.models.tasks import RiskTask

logger = logging.getLogger("vigil.serving")

_LOOK_SECONDS: Final = 2.0


class Champion:
    """The champion of one home and task."""

    def __init__(self, home: Path, task: str, on_change: Callable[[RegisteredModel], None] = lambda _: None) -> None:
        """Nothing is loaded before :meth:`look`.

        Args:
            home: where the registry is.
            task: whose champion.
            on_change: told whenever another model is in use, or the one in use was withdrawn or reinstated.
        """
        self._home = home
        self._on_change = on_change
        self._task = task
        self._model: RegisteredModel | None = None
        self._complaint = ""
        self._stop = threading.Event()

    @property
    def model(self) -> RegisteredModel | None:
        """The model in use, or one that was withdrawn and says so; take it once for one answer."""
        return self._model

    @classmethod
    def loaded(cls, home: Path, task: str) -> "Champion":
        """The champion as it is now, if there is one."""
        champion = cls(home, task)
        champion.look()
        return champion

    def look(self) -> None:
        """Follow the alias, where it points elsewhere than before. A registry that is gone takes no model away."""
        try:
            registry = Registry.open_existing(self._home)
            version, withdrawn = registry.version_and_withdrawal(self._task, CHAMPION)
            if self._model is None or version != self._model.version:
                model = registry.load(self._task, version)
                _require_features(model)
                self._use(model)
            elif withdrawn != self._model.withdrawn:
                self._use(replace(self._model, withdrawn=withdrawn))
            self._complaint = ""
        except NoModelError as error:
            if self._model is None:
                self._complain(f"no model, so risks are NEWS2 until there is one: {error}")
        except VigilError as error:
            self._complain(f"{error}; going on with what is in use")
        except Exception as error:  # noqa: BLE001 - a registry in trouble must not stop a server that has a model
            trouble = f"registry {self._home / 'mlflow.db'} cannot be read ({type(error).__name__}); restore it from a backup"
            if self._model is None:
                self._complain(f"no model, so risks are NEWS2 until there is one: {trouble}")
            else:
                self._complain(f"{trouble}; going on with what is in use")

    def _use(self, model: RegisteredModel) -> None:
        self._model = model
        self._on_change(model)
        if model.withdrawn:
            logger.error("%s version %s was withdrawn, so risks are NEWS2 until it is reinstated", model.name, model.version)
        else:
            logger.info("serving %s version %s, %s", model.name, model.version, model.feature_service)

    def _complain(self, complaint: str) -> None:
        """Once, until something else is wrong."""
        if complaint != self._complaint:
            self._complaint = complaint
            logger.error("%s", complaint)

    def follow(self) -> None:
        """Look again every few seconds, in a thread of its own."""
        threading.Thread(target=self._follow, name="champion", daemon=True).start()

    def stop(self) -> None:
        """End following."""
        self._stop.set()

    def _follow(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            self.look()


def service_in_use(registered: RegisteredModel | None, task: RiskTask) -> str:
    """Return the feature service of the model in use; without one, that of the task."""
    return registered.feature_service if registered else task.feature_service


def _require_features(model: RegisteredModel) -> None:
    """A model of features that this version cannot make must not take the place of one that works."""
    known = SERVICES.get(model.feature_service)
    if known is None or not set(model.model.features) <= set(known):
        raise VigilError(
            f"registry: version {model.version} of {model.name} reads the feature service {model.feature_service}, which this "
            "version of Vigil does not have; update the server, or roll back: vigil promote --rollback"
        )
