"""The model registry: runs, artifacts, versions and aliases of a home."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd
import skops.io  # type: ignore[import-untyped]  # noqa: F401 - before MLflow: it looks through all modules that are loaded
from pyarrow import ArrowException

from vigil.features.errors import VigilError
from vigil.models.mlflow_store import MlflowException, MlflowStore, ModelVersion
from vigil.models.provenance import current_commit, library_versions
from vigil.models.stored_model import TRUSTED_TYPES, digest_model, read_model
from vigil.models.training.risk_model import RiskModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"

VERSION_TAG: Final = "version."  # prefix of a run's tags: the version of a library
_PREVIOUS: Final = "previous_champion"  # tag of a version: the champion before it
_SINCE: Final = "champion_since"  # tag of a model
WITHDRAWN: Final = "withdrawn"  # tag of a version: since when it must not be used, and why, as JSON


class NoModelError(VigilError):
    """The registry holds no such model."""


def registry_uri(home: Path) -> str:
    """Return the URI of a home's registry for MLflow.

    Characters with a meaning for SQLAlchemy are escaped. No others are, because MLflow also names a folder after the URI.
    """
    path = str(home.resolve() / "mlflow.db")
    return f"sqlite:///{path.replace('%', '%25').replace('?', '%3F')}"


@dataclass(frozen=True)
class RegisteredModel:
    """A registered version of a model.

    Attributes:
        model: the artifact.
        name, version: of the registered model.
        run_id: the training run that made it.
        withdrawn: whether it must not be used until it is reinstated.
    """

    model: RiskModel
    name: str
    version: str
    run_id: str
    withdrawn: bool = False

    @property
    def feature_service(self) -> str:
        """The feature service that the model was trained on. Its task may name another one today."""
        return str(self.model.metadata_["feature_service"])


@dataclass(frozen=True)
class Withdrawal:
    """The withdrawal of a version.

    Attributes:
        at: when it was withdrawn.
        because: why.
    """

    at: datetime
    because: str


class Registry:
    """The MLflow registry of a home: ``mlflow.db`` holds runs and versions, ``mlartifacts/`` the files."""

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()
        self.store = MlflowStore(registry_uri(self.home))
        self.client = self.store.client
        self._active: str | None = None  # id of the active run

    @classmethod
    def open_existing(cls, home: Path) -> "Registry":
        """Open the registry of a home that has one. The constructor would create an empty one.

        Raises:
            NoModelError: the home has none.
        """
        if not (home / "mlflow.db").exists():
            raise NoModelError(f"registry {home / 'mlflow.db'}: not there; train a model first: vigil train")
        return cls(home)

    @contextmanager
    def run(
        self,
        experiment: str,
        run_id: str | None = None,
        dataset: tuple[str, str] | None = None,
        what: str | None = None,
        context: str = "training",
    ) -> Iterator[str]:
        """Start a run of an experiment, or resume an earlier one; yield its id. It is the active run within the block.

        A new run is named as people read it, such as ``deterioration, simulated, 2026-11-30 02:11, all_signals``. A run that
        ends with an exception is marked as failed.

        Args:
            experiment: name of the experiment, which is that of the task.
            run_id: the earlier run to resume.
            dataset: name and digest of the data.
            what: is made in the run, such as a variant, for its name.
            context: what the data are used for, ``training`` or ``evaluation``.
        """
        if run_id is None:
            words = (dataset[0] if dataset else None, f"{datetime.now(UTC):%Y-%m-%d %H:%M}", what)
            run_id = self.create_run(experiment, *(word for word in words if word))
        outer, self._active = self._active, run_id
        try:
            with self.store.running(run_id):
                if dataset is not None:
                    self.store.log_dataset(run_id, *dataset, context)
                yield run_id
        finally:
            self._active = outer

    def create_run(self, experiment: str, *words: str, parent: str | None = None, tags: Mapping[str, str] | None = None) -> str:
        """Create a run and return its id; it is not the active run.

        Args:
            experiment: name of the experiment, which is that of the task.
            words: the rest of its name.
            parent: id of the run that it is nested in.
            tags: of the run, beside its task, commit and the versions of libraries.
        """
        commit = current_commit()
        versions = {f"{VERSION_TAG}{name}": version for name, version in library_versions().items()}
        all_tags = {**versions, "task": experiment, "commit": commit, **(tags or {})}
        artifacts, name = (self.home / "mlartifacts").as_uri(), ", ".join(words if parent else (experiment, *words))
        return self.store.create_run(experiment, artifacts, name, all_tags, commit, parent)

    def _active_run(self) -> str:
        if self._active is None:
            raise RuntimeError("no run is active; expected to log within a block of Registry.run")
        return self._active

    def log(
        self,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        dictionaries: Mapping[str, Any] | None = None,
        figures: "Mapping[str, Figure] | None" = None,
        texts: Mapping[str, str] | None = None,
        tables: Mapping[str, pd.DataFrame] | None = None,
    ) -> None:
        """Log to the active run. Dictionaries, figures, texts and tables go by file name. Nothing may hold an identifier.

        Metrics that are NaN are left out, because MLflow stores none.
        """
        run_id, client = self._active_run(), self.client
        known = {name: value for name, value in (metrics or {}).items() if not math.isnan(value)}
        self.store.log_values(run_id, params or {}, known, tags or {})
        for name, dictionary in (dictionaries or {}).items():
            client.log_dict(run_id, dictionary, name)
        for name, figure in (figures or {}).items():
            client.log_figure(run_id, figure, name)
        for name, text in (texts or {}).items():
            client.log_text(run_id, text, name)
        for name, table in (tables or {}).items():
            path = self.home / name
            table.to_parquet(path)
            client.log_artifact(run_id, str(path))
            path.unlink()

    def log_models(self, models: Mapping[str, RiskModel], sample: pd.DataFrame) -> None:
        """Store fitted models with the active run, each with its signature from the columns of the sample."""
        run_id = self._active_run()
        for name, model in models.items():
            metadata = {"features": len(model.features), **model.metadata_}
            self.store.log_model(run_id, name, model, sample[model.features], metadata, TRUSTED_TYPES)

    def has_champion(self, name: str) -> bool:
        """Return whether a model has a champion. A crash or a gate may have left it without one."""
        return any(CHAMPION in known.aliases for known in self.client.search_registered_models(f"name = '{name}'"))

    def register(
        self, run_id: str, artefact: str, name: str, tags: Mapping[str, str], *, may_be_champion: bool = True
    ) -> tuple[str, str]:
        """Register an artifact of a run as the next version of a model; return its version and alias.

        The version becomes champion if the model has none, unless a gate refused it (``may_be_champion``). Any other version
        becomes challenger.
        """
        if not self.client.search_registered_models(f"name = '{name}'"):
            self.client.create_registered_model(name)
        alias = CHAMPION if may_be_champion and not self.has_champion(name) else CHALLENGER
        version = self.store.create_version(name, run_id, self.store.model_ids(run_id)[artefact], tags)
        self.client.set_registered_model_alias(name, alias, version)
        return version, alias

    def load(self, name: str, version: str | None = None, alias: str = CHAMPION) -> RegisteredModel:
        """Load a version of a model; without a version, the one that has the alias.

        Raises:
            NoModelError: there is none.
        """
        registered_version = self._version(name, version, alias)
        location = self.client.get_model_version_download_uri(name, str(registered_version.version))
        return RegisteredModel(
            self._read(location),
            name,
            str(registered_version.version),
            str(registered_version.run_id),
            WITHDRAWN in registered_version.tags,
        )

    def digest(self, name: str, version: str) -> str:
        """Return the SHA-256 of the artifact of a version.

        Raises:
            NoModelError: there is no such version.
        """
        self._version(name, version, CHAMPION)
        return digest_model(self.store.download(self.client.get_model_version_download_uri(name, version)))

    def version_with_alias(self, name: str, alias: str) -> str:
        """Return the version that has an alias.

        Raises:
            NoModelError: no version has it.
        """
        return str(self._version(name, None, alias).version)

    def version_and_withdrawal(self, name: str, alias: str = CHAMPION) -> tuple[str, bool]:
        """Return the version that has an alias, and whether it is withdrawn. This is one query, for frequent use.

        Raises:
            NoModelError: no version has it.
        """
        registered_version = self._version(name, None, alias)
        return str(registered_version.version), WITHDRAWN in registered_version.tags

    def withdraw(self, name: str, version: str, because: str, at: datetime) -> None:
        """Withdraw a version: servers must not use it, whatever alias it has. A second withdrawal changes nothing.

        Args:
            name, version: of the registered model.
            because: why, for those who may reinstate it. It must hold nothing about a patient.
            at: when that was decided, with its time zone.

        Raises:
            NoModelError: there is no such version.
        """
        if self.withdrawal(name, version) is None:
            record = {"at": at.astimezone(UTC).isoformat(), "because": because}
            self.set_tags(name, version, {WITHDRAWN: json.dumps(record)})

    def reinstate(self, name: str, version: str) -> None:
        """Reinstate a version: servers may use it again. A version that is not withdrawn stays as it is.

        Raises:
            NoModelError: there is no such version.
        """
        if self.withdrawal(name, version) is not None:
            self.client.delete_model_version_tag(name, version, WITHDRAWN)

    def withdrawal(self, name: str, version: str) -> Withdrawal | None:
        """Return the withdrawal of a version; None if it is not withdrawn.

        Raises:
            NoModelError: there is no such version.
        """
        tag = self._version(name, version, CHAMPION).tags.get(WITHDRAWN)
        if tag is None:
            return None
        record = json.loads(tag)
        return Withdrawal(datetime.fromisoformat(record["at"]), record["because"])

    def promote(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        """Make a version champion; its tag ``previous_champion`` names the champion before it, if there was one.

        Tags are written first. The alias, which servers read, moves in one step and never before the tags.
        """
        previous = {_PREVIOUS: str(self._champion(name).version)} if self.has_champion(name) else {}
        self.set_tags(name, version, {**tags, **previous})
        self._make_champion(name, version)
        if str(self.client.get_registered_model(name).aliases.get(CHALLENGER)) == version:
            self.client.delete_registered_model_alias(name, CHALLENGER)

    def champion_since(self, name: str) -> datetime | None:
        """Return when the champion was promoted; None if it is the first one, champion since its registration."""
        since = self.client.get_registered_model(name).tags.get(_SINCE)
        return datetime.fromisoformat(since) if since else None

    def _make_champion(self, name: str, version: str) -> None:
        self.client.set_registered_model_tag(name, _SINCE, datetime.now(UTC).isoformat())
        self.client.set_registered_model_alias(name, CHAMPION, version)

    def previous_champion(self, name: str) -> str:
        """Return the version that was champion before the present one.

        Raises:
            NoModelError: there is no champion, or no other version was champion before it.
        """
        champion = self._champion(name)
        if _PREVIOUS not in champion.tags:
            raise NoModelError(
                f"registry {self.home / 'mlflow.db'}: version {champion.version} of model {name!r} took no champion's place, "
                "so there is none to return to; promote another version instead: vigil promote --version N"
            )
        return str(champion.tags[_PREVIOUS])

    def roll_back(self, name: str, tags: Mapping[str, str]) -> None:
        """Make the previous champion champion again; the tags go to the version that gives way.

        That version loses its ``previous_champion``. So a second roll-back goes one champion further back.
        """
        previous, champion = self.previous_champion(name), self._champion(name).version
        self.set_tags(name, champion, tags)
        self._make_champion(name, previous)
        self.client.delete_model_version_tag(name, champion, _PREVIOUS)

    def set_tags(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        for key, value in tags.items():
            self.client.set_model_version_tag(name, version, key, value)

    def latest_version(self, name: str) -> str:
        """Return the newest version of a model.

        Raises:
            NoModelError: there is none.
        """
        versions = self.client.search_model_versions(f"name = '{name}'")
        if not versions:
            raise NoModelError(f"registry {self.home / 'mlflow.db'}: no model {name!r}; train one first: vigil train")
        return str(max(int(version.version) for version in versions))

    def load_run_models(self, run_id: str) -> dict[str, RiskModel]:
        """Load every model of a run by name: the registered one and its baselines."""
        return {
            name: self._read(self.client.get_logged_model(model_id).artifact_location)
            for name, model_id in self.store.model_ids(run_id).items()
        }

    def load_dictionary(self, run_id: str, name: str) -> dict[str, Any]:
        """Load a dictionary that was logged with a run."""
        return dict(json.loads(self.store.download(f"runs:/{run_id}/{name}").read_text()))

    def find_dictionary(self, run_id: str, name: str) -> dict[str, Any] | None:
        """Load a dictionary that may have been logged with a run; None if it was not."""
        logged = {file.path for file in self.client.list_artifacts(run_id)}
        return self.load_dictionary(run_id, name) if name in logged else None

    def load_table(self, run_id: str, name: str) -> pd.DataFrame:
        """Load a table that was logged with a run.

        Raises:
            NoModelError: the run has no such table, because an earlier version of Vigil made it; or the table is unreadable.
        """
        try:
            return pd.read_parquet(self.store.download(f"runs:/{run_id}/{name}"))
        except (OSError, MlflowException, ArrowException):
            raise NoModelError(
                f"registry {self.home / 'mlflow.db'}: {name} of run {run_id} is missing or unreadable; train again: vigil train"
            ) from None

    def load_metrics(self, run_id: str) -> dict[str, float]:
        """Load the metrics of a run."""
        return dict(self.client.get_run(run_id).data.metrics)

    def _read(self, location: str) -> RiskModel:
        """Read a model in the one format that Vigil writes, whatever format the files beside it name."""
        return read_model(self.store.download(location))

    def _champion(self, name: str) -> ModelVersion:
        return self._version(name, None, CHAMPION)

    def _version(self, name: str, version: str | None, alias: str) -> ModelVersion:
        try:
            if version:
                return self.client.get_model_version(name, version)
            return self.client.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            wanted = f"version {version}" if version else alias
            raise NoModelError(
                f"registry {self.home / 'mlflow.db'}: no {wanted} of model {name!r}; train one first: vigil train "
                "(where a first version was refused: vigil promote)"
            ) from error
