"""Random draws that belong to a row: they depend on its content and a purpose, and not on other rows or their order."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray


def draw_per_row(rows: pd.DataFrame, purpose: str) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each row, shape (n_rows,).

    Args:
        rows: of which equal ones get the same number.
        purpose: 16 letters; draws for other purposes are independent.

    >>> draw_per_row(pd.DataFrame({"subject_id": ["a", "b", "a"]}), "a.purpose.of.16.").round(3).tolist()
    [0.75, 0.399, 0.75]
    """
    hashed = pd.util.hash_pandas_object(rows, index=False, hash_key=purpose)
    return np.asarray(hashed.to_numpy() / 2.0**64)
