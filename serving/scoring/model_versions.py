"""Versions of models that predicted once, loaded when somebody asks about such a prediction."""

import threading
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Final

from vigil.features.errors import VigilError
from vigil.models.registry import NoModelError, RegisteredModel, Registry
from vigil.serving.scoring.champion import Champion

_KEPT: Final = 2  # beside the champion; a model takes some MB


class ModelVersions:
    """The model versions of one home. Threads may share it."""

    def __init__(self, home: Path, champion: Champion) -> None:
        self._home, self._champion = home, champion
        self._loaded: OrderedDict[tuple[str, str], RegisteredModel] = OrderedDict()
        self._lock = threading.Lock()

    def load(self, name: str, version: str) -> RegisteredModel:
        """Return a version as it was when it predicted: not withdrawn.

        Raises:
            NoModelError: the registry does not hold it.
        """
        in_use = self._champion.model
        if in_use is not None and (in_use.name, in_use.version) == (name, version):
            return replace(in_use, withdrawn=False)
        with self._lock:
            if (name, version) not in self._loaded:
                self._loaded[name, version] = self._read(name, version)
            self._loaded.move_to_end((name, version))
            while len(self._loaded) > _KEPT:
                self._loaded.popitem(last=False)
            return self._loaded[name, version]

    def digest(self, name: str, version: str) -> str | None:
        """Return the SHA-256 of a version's artifact as it is now; None: it is not there, or cannot be read."""
        try:
            return Registry.open_existing(self._home).digest(name, version)
        except Exception:  # noqa: BLE001 - a registry in trouble takes nothing else away
            return None

    def _read(self, name: str, version: str) -> RegisteredModel:
        try:
            return replace(Registry.open_existing(self._home).load(name, version), withdrawn=False)
        except VigilError:
            raise
        except Exception as error:
            raise NoModelError(
                f"registry {self._home / 'mlflow.db'}: version {version} of {name} cannot be read ({type(error).__name__}); "
                "restore it from a backup"
            ) from error
