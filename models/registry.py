"""The model registry: runs, artefacts, versions and aliases. The only importer of mlflow."""

import json
import logging
import math
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from pyarrow import ArrowException

from features.errors import VigilError
from models.stored_model import TRUSTED_TYPES, read_model
from models.training.risk_model import RiskModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"

# What a stored model needs beside this package; naming it spares mlflow minutes of guessing.
_REQUIREMENTS: Final = ["scikit-learn", "lightgbm", "skops", "pandas"]
# What a model may come out otherwise with: kept with every run.
_LIBRARIES: Final = ("vigil", "numpy", "pandas", "scipy", "numba", "scikit-learn", "lightgbm", "feast", "mlflow")
_DIGEST: Final = 36  # characters that MLflow keeps of a dataset's digest
VERSION_TAG: Final = "version."
_PREVIOUS: Final = "previous_champion"  # a version's tag: whose place it took
_SINCE: Final = "champion_since"  # a model's tag
WITHDRAWN: Final = "withdrawn"  # another: since when it must not be asked, and why, as JSON


def _commit() -> str:
    """Of our code, short; where it is installed without its history: its version."""
    git = shutil.which("git")
    if git is not None:
        command = [git, "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
        found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a fixed command
        if found.returncode == 0:
            return found.stdout.strip()
    return installed("vigil")


class NoModelError(VigilError):
    """The registry holds no such model."""


def registry_uri(home: Path) -> str:
    """Name the registry of a home as MLflow wants it.

    What SQLAlchemy gives a meaning of its own is escaped, and nothing else: MLflow also makes a folder of the text.
    """
    path = str(home.resolve() / "mlflow.db")
    return f"sqlite:///{path.replace('%', '%25').replace('?', '%3F')}"


@dataclass(frozen=True)
class RegisteredModel:
    """A model as it was registered.

    Attributes:
        model: the artefact.
        name, version: of the registered model.
        run_id: the training run it came from.
        withdrawn: whether it must not be asked, until it is reinstated.
    """

    model: RiskModel
    name: str
    version: str
    run_id: str
    withdrawn: bool = False

    @property
    def feature_service(self) -> str:
        """The feature service the model was trained on, whatever its task asks for today."""
        return str(self.model.facts_["feature_service"])


@dataclass(frozen=True)
class Withdrawal:
    """That a version must not be asked any more.

    Attributes:
        at: since when.
        because: why.
    """

    at: datetime
    because: str


class Registry:
    """MLflow under ``home``: ``mlflow.db`` holds runs and versions, ``mlartifacts/`` the files."""

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()
        self.uri = registry_uri(self.home)
        for noisy in ("alembic", "mlflow.store", "mlflow.tracking", "mlflow.sklearn", "mlflow.models"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        mlflow.set_tracking_uri(self.uri)
        self.client = MlflowClient(self.uri)

    @classmethod
    def existing(cls, home: Path) -> "Registry":
        """That of a home which has one; MLflow would make an empty one.

        Raises:
            NoModelError: it has none.
        """
        if not (home / "mlflow.db").exists():
            raise NoModelError(f"registry {home / 'mlflow.db'}: not there; train a model first: vigil train")
        return cls(home)

    @contextmanager
    def run(self, experiment: str, run_id: str | None = None, dataset: tuple[str, str] | None = None) -> Iterator[str]:
        """A new training run of an experiment, or an earlier one gone on with; yields its id.

        A new one is named by task, date and the commit of our code.

        Args:
            experiment: its name: the task's.
            run_id: of an earlier run.
            dataset: name and digest of what is learned from.
        """
        if run_id is None:
            known = self.client.get_experiment_by_name(experiment)
            artifacts = (self.home / "mlartifacts").as_uri()
            experiment_id = known.experiment_id if known else self.client.create_experiment(experiment, artifacts)
            versions = {"python": platform.python_version(), **{name: installed(name) for name in _LIBRARIES}}
            commit = _commit()
            tags = {f"{VERSION_TAG}{name}": version for name, version in versions.items()}
            tags |= {"task": experiment, "commit": commit}
            name = f"{experiment} {datetime.now(UTC):%Y-%m-%d %H:%M} {commit}"
            context = mlflow.start_run(experiment_id=experiment_id, tags=tags, run_name=name)
        else:
            context = mlflow.start_run(run_id=run_id)
        with context as active:
            if dataset is not None:
                source = CodeDatasetSource({"mlflow.source.name": dataset[0]})
                mlflow.log_input(MetaDataset(source, name=dataset[0], digest=dataset[1][:_DIGEST]), context="training")
            yield active.info.run_id

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
        """Log to the active run; all but params, metrics and tags by file name. Nothing may hold an identifier."""
        mlflow.log_params(params or {})
        mlflow.log_metrics(
            {name: value for name, value in (metrics or {}).items() if not math.isnan(value)}
        )  # it stores no NaN
        mlflow.set_tags(tags or {})
        for name, dictionary in (dictionaries or {}).items():
            mlflow.log_dict(dictionary, name)
        for name, figure in (figures or {}).items():
            mlflow.log_figure(figure, name)
        for name, text in (texts or {}).items():
            mlflow.log_text(text, name)
        for name, table in (tables or {}).items():
            path = self.home / name
            table.to_parquet(path)
            mlflow.log_artifact(str(path))
            path.unlink()

    def log_models(self, models: Mapping[str, RiskModel], sample: pd.DataFrame) -> None:
        """Keep fitted models with the active run, each with its signature from the sample's columns."""
        for name, model in models.items():
            inputs = sample[model.features]
            mlflow.sklearn.log_model(
                model,
                name=name,
                signature=infer_signature(inputs, model.predict_proba(inputs)),
                pip_requirements=_REQUIREMENTS,
                skops_trusted_types=TRUSTED_TYPES,
                metadata={"features": len(model.features), **model.facts_},
            )

    def has_champion(self, name: str) -> bool:
        """Whether there is a champion; a crash or a gate may have left a model without one."""
        return any(CHAMPION in known.aliases for known in self.client.search_registered_models(f"name = '{name}'"))

    def register(
        self, run_id: str, artefact: str, name: str, tags: Mapping[str, str], *, may_be_champion: bool = True
    ) -> tuple[str, str]:
        """Register a run's artefact as the next version of a model; returns version and alias.

        It becomes champion where there is none, unless ``may_be_champion`` says that a gate refused it; otherwise challenger.
        """
        if not self.client.search_registered_models(f"name = '{name}'"):
            self.client.create_registered_model(name)
        alias = CHAMPION if may_be_champion and not self.has_champion(name) else CHALLENGER
        model_id = self._model_ids(run_id)[artefact]
        version = self.client.create_model_version(
            name, source=f"models:/{model_id}", run_id=run_id, model_id=model_id, tags=dict(tags)
        ).version
        self.client.set_registered_model_alias(name, alias, version)
        return str(version), alias

    def load(self, name: str, version: str | None = None, alias: str = CHAMPION) -> RegisteredModel:
        """A registered version, or where none is named the one that has the alias.

        Raises:
            NoModelError: there is none.
        """
        found = self._version(name, version, alias)
        model = self._read(f"models:/{name}/{found.version}")
        return RegisteredModel(model, name, str(found.version), str(found.run_id), WITHDRAWN in found.tags)

    def version_of(self, name: str, alias: str) -> str:
        """The version that has an alias.

        Raises:
            NoModelError: none has it.
        """
        return str(self._version(name, None, alias).version)

    def standing(self, name: str, alias: str = CHAMPION) -> tuple[str, bool]:
        """The version that has an alias and whether it was withdrawn: one query, for those who ask every few seconds.

        Raises:
            NoModelError: none has it.
        """
        found = self._version(name, None, alias)
        return str(found.version), WITHDRAWN in found.tags

    def withdraw(self, name: str, version: str, because: str, at: datetime) -> None:
        """From now on servers must not ask a version, whatever alias it has; withdrawn again, the first time and reason stand.

        Args:
            name, version: of the registered model.
            because: why, for whoever is to reinstate it; nothing of a patient.
            at: when that was decided, with its time zone.

        Raises:
            NoModelError: there is no such version.
        """
        if self.withdrawal(name, version) is None:
            said = {"at": at.astimezone(UTC).isoformat(), "because": because}
            self.tag(name, version, {WITHDRAWN: json.dumps(said)})

    def reinstate(self, name: str, version: str) -> None:
        """A version may be asked again; one that was not withdrawn stays as it is.

        Raises:
            NoModelError: there is no such version.
        """
        if self.withdrawal(name, version) is not None:
            self.client.delete_model_version_tag(name, version, WITHDRAWN)

    def withdrawal(self, name: str, version: str) -> Withdrawal | None:
        """Since when and why a version must not be asked; None: it may.

        Raises:
            NoModelError: there is no such version.
        """
        said = self._version(name, version, CHAMPION).tags.get(WITHDRAWN)
        if said is None:
            return None
        kept = json.loads(said)
        return Withdrawal(datetime.fromisoformat(kept["at"]), kept["because"])

    def promote(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        """Make a version champion; its tag ``previous_champion`` names the one whose place it takes, if there is one.

        Tags are written first: the alias, which is what servers read, moves in one step and never without them.
        """
        previous = {_PREVIOUS: str(self._champion(name).version)} if self.has_champion(name) else {}
        self.tag(name, version, {**tags, **previous})
        self._crown(name, version)
        if str(self.client.get_registered_model(name).aliases.get(CHALLENGER)) == version:
            self.client.delete_registered_model_alias(name, CHALLENGER)

    def champion_since(self, name: str) -> datetime | None:
        """When the champion was promoted; None: it is the first, and was crowned when it was registered."""
        said = self.client.get_registered_model(name).tags.get(_SINCE)
        return datetime.fromisoformat(said) if said else None

    def _crown(self, name: str, version: str) -> None:
        self.client.set_registered_model_tag(name, _SINCE, datetime.now(UTC).isoformat())
        self.client.set_registered_model_alias(name, CHAMPION, version)

    def previous_champion(self, name: str) -> str:
        """The version whose place the champion took.

        Raises:
            NoModelError: there is no champion, or it took nobody's place.
        """
        champion = self._champion(name)
        if _PREVIOUS not in champion.tags:
            raise NoModelError(
                f"registry {self.home / 'mlflow.db'}: version {champion.version} of model {name!r} took no champion's place, "
                "so there is none to return to; promote another version instead: vigil promote --version N"
            )
        return str(champion.tags[_PREVIOUS])

    def roll_back(self, name: str, tags: Mapping[str, str]) -> None:
        """Make the previous champion champion again; tags go to the version that gives way.

        It forgets whose place it took, so that rolling back once more goes one champion further back.
        """
        previous, champion = self.previous_champion(name), self._champion(name).version
        self.tag(name, champion, tags)
        self._crown(name, previous)
        self.client.delete_model_version_tag(name, champion, _PREVIOUS)

    def tag(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        """Say something of a version, for those who look at the registry."""
        for key, value in tags.items():
            self.client.set_model_version_tag(name, version, key, value)

    def latest_version(self, name: str) -> str:
        """The newest version of a model.

        Raises:
            NoModelError: there is none.
        """
        versions = self.client.search_model_versions(f"name = '{name}'")
        if not versions:
            raise NoModelError(f"registry {self.home / 'mlflow.db'}: no model {name!r}; train one first: vigil train")
        return str(max(int(version.version) for version in versions))

    def load_run_models(self, run_id: str) -> dict[str, RiskModel]:
        """Every model kept with a run: the registered one and its baselines."""
        return {name: self._read(f"models:/{model_id}") for name, model_id in self._model_ids(run_id).items()}

    def dictionary(self, run_id: str, name: str) -> dict[str, Any]:
        """A dictionary logged with a run."""
        return dict(mlflow.artifacts.load_dict(f"runs:/{run_id}/{name}"))

    def table(self, run_id: str, name: str) -> pd.DataFrame:
        """A table logged with a run.

        Raises:
            NoModelError: the run has none of that name, as one that an earlier version of Vigil made; or it cannot be read.
        """
        try:
            return pd.read_parquet(self.client.download_artifacts(run_id, name))
        except (OSError, MlflowException, ArrowException):
            raise NoModelError(
                f"registry {self.home / 'mlflow.db'}: {name} of run {run_id} is missing or unreadable; train anew: vigil train"
            ) from None

    def metrics(self, run_id: str) -> dict[str, float]:
        """What a run measured."""
        return dict(self.client.get_run(run_id).data.metrics)

    def _read(self, uri: str) -> RiskModel:
        """The artefact, in the one format that we write: what the files beside it say of it is not asked."""
        return read_model(Path(mlflow.artifacts.download_artifacts(artifact_uri=uri)))

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

    def _model_ids(self, run_id: str) -> dict[str, str]:
        experiment = self.client.get_run(run_id).info.experiment_id
        logged = self.client.search_logged_models([experiment], filter_string=f"source_run_id = '{run_id}'")
        return {model.name: model.model_id for model in sorted(logged, key=lambda model: model.creation_timestamp)}
