"""Raw scores of a few rows without what LightGBM's Python interface does at every call, which takes fifty times as long.

It is LightGBM's own C interface for single rows (``LGBM_BoosterPredictForMatSingleRowFast``), which its package loads but
does not offer; the scores are those of ``Booster.predict``, bit for bit.
"""

import ctypes
import threading
import weakref
from typing import Final

import lightgbm
import numpy as np
from lightgbm.basic import _LIB, _safe_call
from numpy.typing import NDArray

_FLOAT32: Final = 0  # C_API_DTYPE_FLOAT32
_RAW_SCORE: Final = 1  # C_API_PREDICT_RAW_SCORE


class _Prepared:
    """A booster made ready for single rows of float32."""

    def __init__(self, booster: lightgbm.Booster) -> None:
        self.columns = booster.num_feature()
        self._handle = ctypes.c_void_p()
        _safe_call(
            _LIB.LGBM_BoosterPredictForMatSingleRowFastInit(
                booster._handle,  # noqa: SLF001 - the package offers no other way
                ctypes.c_int(_RAW_SCORE),
                ctypes.c_int(0),
                ctypes.c_int(booster.best_iteration),
                ctypes.c_int(_FLOAT32),
                ctypes.c_int32(self.columns),
                ctypes.c_char_p(b"num_threads=1"),
                ctypes.byref(self._handle),
            )
        )
        weakref.finalize(self, _LIB.LGBM_FastConfigFree, self._handle)

    def scores(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        found = np.empty(len(matrix))
        length = ctypes.c_int64()
        row, out = matrix.ctypes.data, found.ctypes.data
        for _ in range(len(matrix)):
            _safe_call(
                _LIB.LGBM_BoosterPredictForMatSingleRowFast(
                    self._handle, ctypes.c_void_p(row), ctypes.byref(length), ctypes.c_void_p(out)
                )
            )
            row, out = row + matrix.strides[0], out + found.itemsize
        return found


_PREPARED: Final[weakref.WeakKeyDictionary[lightgbm.Booster, _Prepared]] = weakref.WeakKeyDictionary()
_PREPARING: Final = threading.Lock()


def raw_scores(booster: lightgbm.Booster, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
    """Raw scores of rows, shape (n_rows,).

    Raises:
        ValueError: another number of columns than the booster was trained on.
    """
    with _PREPARING:
        prepared = _PREPARED.get(booster)
        if prepared is None:
            prepared = _PREPARED[booster] = _Prepared(booster)
    if matrix.shape[1] != prepared.columns:
        raise ValueError(f"matrix: {matrix.shape[1]} columns; expected the {prepared.columns} of the booster")
    return prepared.scores(np.ascontiguousarray(matrix, dtype=np.float32))
