"""Integer arithmetic beyond 64 bits. With it each statistic is rounded only once, at its end."""

import numba
import numpy as np

_LOW: int = 0xFFFFFFFF


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _multiply(a: int, b: int) -> tuple[np.int64, np.uint64]:
    """Return a * b of two int64 as (high int64, low uint64).

    The factors are split into halves (Warren H. Hacker's Delight, 2nd ed., section 8-2).
    """
    a_low, a_high = a & _LOW, a >> 32
    b_low, b_high = b & _LOW, b >> 32
    carry = a_high * b_low + np.int64((np.uint64(a_low) * np.uint64(b_low)) >> np.uint64(32))
    middle = (carry & _LOW) + a_low * b_high
    high = a_high * b_high + (carry >> 32) + (middle >> 32)
    return high, np.uint64(a) * np.uint64(b)


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def difference_of_products(a: int, b: int, c: int, d: int) -> float:
    """Return a * b - c * d of int64 numbers.

    The difference is exact in 128 bits. The float64 result is within one unit in the last place. The difference must lie
    within +-2^127. It does if no product exceeds 2^126.
    """
    high, low = _multiply(a, b)
    other_high, other_low = _multiply(c, d)
    borrow = np.int64(1) if low < other_low else np.int64(0)
    low -= other_low
    high -= other_high + borrow
    if high < 0:  # negate, so that a magnitude is rounded
        low = ~low + np.uint64(1)
        high = ~high + (np.int64(1) if low == 0 else np.int64(0))
        return -(float(high) * 2.0**64 + float(low))
    return float(high) * 2.0**64 + float(low)
