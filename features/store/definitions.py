"""The catalogue as Feast objects: one entity, a feature view for each view, and a feature service for each service."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import ParquetFormat
from feast.types import Float32

from vigil.features.catalogue import INDEX_STEP, SERVICES, VIEWS, service_views

SUBJECT_ENTITY: Final = Entity(name="subject", join_keys=["subject_id"], value_type=ValueType.STRING)


def feature_views(folder: Path, views: Iterable[str]) -> dict[str, FeatureView]:
    """Return Feast views of the Parquet files ``folder/<view>/*.parquet``.

    Args:
        folder: Absolute path.
        views: Names of views.
    """
    return {
        view: FeatureView(
            name=view,
            entities=[SUBJECT_ENTITY],
            ttl=INDEX_STEP,  # a row is valid for its own index step; older rows are not joined
            schema=[Field(name=feature.name, dtype=Float32, description=feature.description) for feature in VIEWS[view]],
            source=FileSource(
                name=f"{view}_parquet",
                path=str(folder / view),
                file_format=ParquetFormat(),
                timestamp_field="event_timestamp",
                created_timestamp_column="created_timestamp",
            ),
        )
        for view in views
    }


def feature_services(views: dict[str, FeatureView]) -> list[FeatureService]:
    """Return a Feast service for each service of the catalogue that reads no other views than these."""
    return [
        FeatureService(name=name, features=[views[view][list(members)] for view, members in service_views(name).items()])
        for name in SERVICES
        if service_views(name).keys() <= views.keys()
    ]
