"""Frames in and frames out, of the kind that was given, by narwhals."""

from typing import Any, cast

import narwhals as nw
import pandas as pd
import pyarrow as pa
from narwhals.typing import IntoDataFrameT as Frame

__all__ = ["Frame", "same_kind", "to_pandas"]


def to_pandas(frame: Any) -> pd.DataFrame:
    """Return a frame of any kind as pandas."""
    rows: pd.DataFrame = frame if isinstance(frame, pd.DataFrame) else nw.from_native(frame, eager_only=True).to_pandas()
    return rows


def same_kind(frame: Frame, result: pd.DataFrame) -> Frame:
    """Return a result as the kind of frame that was given."""
    backend = nw.from_native(frame, eager_only=True).implementation
    same: Any = result
    if not isinstance(frame, pd.DataFrame):
        same = nw.from_arrow(pa.Table.from_pandas(result, preserve_index=False), backend=backend).to_native()
    return cast("Frame", same)
