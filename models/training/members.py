"""Members of a risk model: the rows that each one learns from, its fit, and work on several of them at once."""

import ctypes
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vigil.features.errors import VigilError
from vigil.models.training.measurement_augmentation import Augmented

T = TypeVar("T")
R = TypeVar("R")

_CPUS: Final = os.cpu_count() or 1
_CORES: Final = threading.BoundedSemaphore(_CPUS)
_PREPARING: Final = threading.Lock()


class TooFewEventsError(VigilError, ValueError):
    """The patients have too few events, or too few patients are without."""


def draw_rows(
    rows: NDArray[np.int64], labels: NDArray[np.float64], max_negatives: int | None, seed: list[int]
) -> NDArray[np.int64]:
    """Return all rows with an event and at most so many without, in ascending order.

    Args:
        rows: positions among the labels, ascending.
        labels: 0 or 1 at those positions.
        max_negatives: how many rows without an event to draw; None: all.
        seed: of the draw.

    >>> draw_rows(np.array([0, 1, 3]), np.array([0.0, 1.0, 0.0, 1.0]), 0, [1]).tolist()
    [1, 3]
    """
    negative = rows[labels[rows] == 0]
    if max_negatives is None or len(negative) <= max_negatives:
        return rows
    drawn = np.random.default_rng(seed).choice(negative, max_negatives, replace=False)
    return np.sort(np.concatenate([rows[labels[rows] == 1], drawn]))


def draw_training_rows(
    matrix: Callable[[pd.DataFrame], NDArray[np.float32]],
    X: pd.DataFrame,
    labels: NDArray[np.float64],
    known: NDArray[np.bool_],
    augmented: Sequence[Augmented],
    max_negatives: int | None,
    draw: int,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the rows that a member learns from, as measured and augmented, and the row of the frame each belongs to.

    A tree can tell a truncated record by its counts. So the level of truncated records is learned from their own events and
    non-events, and the calibration to rows as measured would not correct it. Therefore the same share of rows without an event
    is drawn from every way. An augmented row stands for the hours that it states: a few rows of every stay would count short
    stays, and so events, too often.

    Args:
        matrix: turns rows into what a member reads.
        X: the frame as measured.
        labels: 0, 1 or NaN, shape (n_rows,).
        known: which rows may be learned from, shape (n_rows,).
        augmented: the frame as recorded in other ways.
        max_negatives: as :func:`draw_rows` takes it.
        draw: seed of the member.

    Raises:
        TooFewEventsError: the rows hold one class only.
    """
    as_measured = np.flatnonzero(known)
    drawn = draw_rows(as_measured, labels, max_negatives, [draw, 0])
    _require_events(labels[drawn])
    share = (labels[drawn] == 0).sum() / (labels[as_measured] == 0).sum()
    parts, rows = [matrix(X.take(drawn))], [drawn]
    for number, way in enumerate(augmented, start=1):
        positions = np.flatnonzero(known[way.rows])
        label, hours = labels[way.rows[positions]], way.hours[positions]
        odds_against = hours[label == 0].sum() / max(hours[label == 1].sum(), 1.0)
        drawn = draw_rows(positions, labels[way.rows], round(label.sum() * odds_against * share), [draw, number])
        parts.append(matrix(way.features.take(drawn)))
        rows.append(way.rows[drawn])
    return np.concatenate(parts), np.concatenate(rows)


def _require_events(labels: NDArray[np.float64]) -> None:
    if len(np.unique(labels)) != 2:
        raise TooFewEventsError(
            f"labels: the patients of a fold's training part hold {len(np.unique(labels))} of the 2 classes of outcome; "
            "a larger cohort is needed, with some events and some non-events in every fold"
        )


def fit_prepared(member: Any, seen: NDArray[np.float32], labels: NDArray[np.int64], prepared: Callable[[], None]) -> None:
    """Fit a member, and call ``prepared`` once its rows are prepared: of LightGBM, before its first tree."""
    if not isinstance(member, lightgbm.LGBMClassifier):
        prepared()
        member.fit(seen, labels)
        return

    def begin_tree(_: lightgbm.callback.CallbackEnv) -> None:
        prepared()

    begin_tree.before_iteration = True  # type: ignore[attr-defined]
    member.fit(seen, labels, callbacks=[begin_tree])


def map_on_cores(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Work on several items at once, each on one core, and yield the results in order.

    This is faster than threads within a member, which wait for each other. Callers in several threads share the cores: all of
    them together work on one item per core, because an item of a large cohort takes half a gigabyte.
    """

    def work_on_core(item: T) -> R:
        with _CORES:
            return work(item)

    with ThreadPoolExecutor(_CPUS) as pool:
        yield from pool.map(work_on_core, items)


def map_side_by_side(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Work on several items at once, and yield the results in order. An item may itself call :func:`map_on_cores`."""
    with ThreadPoolExecutor(_CPUS) as pool:
        yield from pool.map(work, items)


@contextmanager
def preparing_alone() -> Iterator[Callable[[], None]]:
    """Wait until no other member prepares its rows. The yielded function, or the end of the block, lets the next one begin.

    Sorting the values of a large cohort's rows into bins takes two gigabytes, and learning from them a quarter of one.
    """
    has_ended = False

    def end() -> None:
        nonlocal has_ended
        if not has_ended:
            has_ended = True
            release_memory()
            _PREPARING.release()

    _PREPARING.acquire()  # released by another function, so not by a with statement
    try:
        yield end
    finally:
        end()


def release_memory() -> None:
    """Give freed memory back to the system. The C library of Linux keeps it, gigabytes of a large cohort."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
