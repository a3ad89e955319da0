"""MLflow behind one class: runs, logged models and files. Only this module imports mlflow.

A store has a client of its own. MLflow's process-wide tracking URI is not used, so that stores of several homes work side by
side in one process. MLflow's fluent functions (``mlflow.log_params`` and the like) know only that URI, so what they store is
written here through the client, in the same form. One MLflow function works with that URI alone (:func:`_process_wide_uri`).
"""

import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, Run, RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, infer_signature
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_GIT_COMMIT, MLFLOW_PARENT_RUN_ID

__all__ = ["MlflowException", "MlflowStore", "ModelVersion"]

# What a stored model needs apart from this package. Naming it spares MLflow minutes of inference.
_REQUIREMENTS: Final = ["scikit-learn", "lightgbm", "skops", "pandas"]
_DIGEST_LENGTH: Final = 36  # characters that MLflow stores of a dataset's digest
_STEP: Final = 0  # of every metric and model: a run has one
_URI_LOCK: Final = threading.Lock()


@contextmanager
def _process_wide_uri(uri: str) -> Iterator[None]:
    """Set MLflow's process-wide tracking URI within a block, and restore it afterwards.

    ``create_model_version`` needs it. MLflow's SQL store looks up a ``models:/<id>`` source by ``MlflowClient()``, whatever
    client made the call (a TODO in ``mlflow/store/model_registry/sqlalchemy_store.py``). Restoring the URI restores the
    environment variable ``MLFLOW_TRACKING_URI`` too.
    """
    with _URI_LOCK:
        before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
        mlflow.set_tracking_uri(uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(before)


class MlflowStore:
    """Runs, logged models and files of one MLflow database.

    Attributes:
        uri: of the database (``sqlite:///...``), for tracking and for the registry.
        client: of this database.
    """

    def __init__(self, uri: str) -> None:
        for noisy in ("alembic", "mlflow.store", "mlflow.tracking", "mlflow.sklearn", "mlflow.models"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        self.uri = uri
        self.client = MlflowClient(tracking_uri=uri, registry_uri=uri)

    def create_run(
        self, experiment: str, artifacts: str, name: str, tags: Mapping[str, str], commit: str, parent: str | None = None
    ) -> str:
        """Create a run and return its id; create the experiment first if there is none.

        Args:
            experiment: its name.
            artifacts: URI of the folder for the files of a new experiment.
            name, tags: of the run. MLflow adds tags of its own, such as the user.
            commit: of the code, which MLflow shows as the version of the run.
            parent: id of the run that it is nested in.
        """
        tags = {**tags, MLFLOW_GIT_COMMIT: commit, **({MLFLOW_PARENT_RUN_ID: parent} if parent else {})}
        known = self.client.get_experiment_by_name(experiment)
        experiment_id = known.experiment_id if known else self.client.create_experiment(experiment, artifacts)
        return str(self.client.create_run(experiment_id, tags=resolve_tags(dict(tags)), run_name=name).info.run_id)

    @contextmanager
    def running(self, run_id: str) -> Iterator[None]:
        """Mark a run as running within a block, then as finished; as failed if the block raises an exception."""
        self.client.update_run(run_id, status="RUNNING")
        status = "FAILED"
        try:
            yield
            status = "FINISHED"
        finally:
            self.client.set_terminated(run_id, status)

    def end_run(self, run_id: str, status: str) -> None:
        """Mark a run as ended, with a status of MLflow: ``FINISHED``, ``KILLED`` or ``FAILED``."""
        self.client.set_terminated(run_id, status)

    def log_step(self, run_id: str, name: str, value: float, step: int) -> None:
        """Log one value of a metric that a run has several of."""
        self.client.log_metric(run_id, name, value, step=step)

    def list_nested(self, run_id: str) -> list[Run]:
        """Return the runs nested in a run, the oldest first."""
        return self._search([self.client.get_run(run_id).info.experiment_id], {MLFLOW_PARENT_RUN_ID: run_id})

    def find_runs(self, experiment: str, tags: Mapping[str, str]) -> list[Run]:
        """Return the runs of an experiment that have these tags, the oldest first."""
        known = self.client.get_experiment_by_name(experiment)
        return self._search([known.experiment_id], tags) if known else []

    def _search(self, experiment_ids: list[str], tags: Mapping[str, str]) -> list[Run]:
        wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        runs, page = [], None
        while page != "":
            found = self.client.search_runs(experiment_ids, wanted, order_by=["attributes.start_time ASC"], page_token=page)
            runs += found
            page = found.token or ""
        return runs

    def log_dataset(self, run_id: str, name: str, digest: str, context: str = "training") -> None:
        """Log name and digest of the data that a run learned from (``training``) or was judged on (``evaluation``)."""
        source = CodeDatasetSource({"mlflow.source.name": name})
        described = MetaDataset(source, name=name, digest=digest[:_DIGEST_LENGTH]).to_dict()
        tags = [InputTag(MLFLOW_DATASET_CONTEXT, context)]
        self.client.log_inputs(run_id, [DatasetInput(Dataset.from_dictionary(described), tags)])

    def log_values(self, run_id: str, params: Mapping[str, Any], metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
        """Log parameters, metrics and tags of a run. Metrics of a run that has models are stored with each of them too."""
        outputs = self.client.get_run(run_id).outputs
        models = [output.model_id for output in outputs.model_outputs if output.step == _STEP] if outputs else []
        now = time.time_ns() // 1_000_000
        self.client.log_batch(
            run_id,
            metrics=[
                Metric(name, value, now, _STEP, model_id=model_id, run_id=run_id)
                for name, value in metrics.items()
                for model_id in models or [None]
            ],
            params=[Param(name, str(value)) for name, value in params.items()],
            tags=[RunTag(name, str(value)) for name, value in tags.items()],
        )

    def log_model(
        self, run_id: str, name: str, model: Any, inputs: pd.DataFrame, metadata: Mapping[str, Any], trusted: Sequence[str]
    ) -> None:
        """Store a fitted model with a run, as ``mlflow.sklearn.log_model`` does.

        Args:
            run_id: of the run. The model gets its parameters and its metrics.
            name: of the model within the run.
            model: a scikit-learn classifier.
            inputs: rows from which its signature is inferred.
            metadata: what the file ``MLmodel`` says about the model.
            trusted: types beyond scikit-learn's own that the stored model holds.
        """
        client, run = self.client, self.client.get_run(run_id)
        logged = client.create_logged_model(run.info.experiment_id, name, run_id, tags=resolve_tags(), params=run.data.params)
        status = "FAILED"
        try:
            client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=_STEP)])
            client.log_batch(run_id, self._metrics_for(logged.model_id, run_id))
            description = Model(
                artifact_path=logged.artifact_location,
                model_uuid=logged.model_id,
                run_id=run_id,
                metadata=dict(metadata),
                model_id=logged.model_id,
            )
            with TemporaryDirectory() as folder:
                mlflow.sklearn.save_model(
                    model,
                    f"{folder}/model",
                    mlflow_model=description,
                    serialization_format=mlflow.sklearn.SERIALIZATION_FORMAT_SKOPS,
                    signature=infer_signature(inputs, model.predict_proba(inputs)),
                    pip_requirements=_REQUIREMENTS,
                    skops_trusted_types=list(trusted),
                )
                client.log_model_artifacts(logged.model_id, f"{folder}/model")
            status = "READY"
        finally:
            client.finalize_logged_model(logged.model_id, status)

    def _metrics_for(self, model_id: str, run_id: str) -> list[Metric]:
        """Return the metrics that a run has so far, for one of its models."""
        histories = [self.client.get_metric_history(run_id, name) for name in self.client.get_run(run_id).data.metrics]
        return [
            Metric(metric.key, metric.value, metric.timestamp, metric.step, model_id=model_id, run_id=run_id)
            for history in histories
            for metric in history
            if metric.step == _STEP and metric.model_id is None
        ]

    def model_ids(self, run_id: str) -> dict[str, str]:
        """Return the ids of a run's models by name; of several with one name, that of the newest."""
        experiment = self.client.get_run(run_id).info.experiment_id
        logged = self.client.search_logged_models([experiment], filter_string=f"source_run_id = '{run_id}'")
        return {model.name: model.model_id for model in sorted(logged, key=lambda model: model.creation_timestamp)}

    def create_version(self, name: str, run_id: str, model_id: str, tags: Mapping[str, str]) -> str:
        """Register a model of a run as the next version of a registered model; return the version."""
        with _process_wide_uri(self.uri):
            created = self.client.create_model_version(
                name, source=f"models:/{model_id}", run_id=run_id, model_id=model_id, tags=dict(tags)
            )
        return str(created.version)

    def download(self, uri: str) -> Path:
        """Return the local path of a file or folder.

        Args:
            uri: ``runs:/<run id>/<path>`` or where an artifact lies. Not ``models:/...``: MLflow looks those up by the
                process-wide registry URI.
        """
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, tracking_uri=self.uri, registry_uri=self.uri))
