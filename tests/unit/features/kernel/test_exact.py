"""Exact arithmetic, compared with Python's integers."""

from hypothesis import given, settings
from hypothesis import strategies as st

from vigil.features.kernel.exact import difference_of_products

INTEGERS = st.one_of(
    *[st.integers(-(2**bits), 2**bits - 1) for bits in (3, 31, 32, 40, 62)], st.sampled_from([0, 1, -1, 2**62, -(2**62)])
)


@settings(deadline=None)  # the first call compiles
@given(INTEGERS, INTEGERS, INTEGERS, INTEGERS)
def test_difference_of_products_is_exact_to_the_last_place(a, b, c, d):
    exact, result = a * b - c * d, difference_of_products(a, b, c, d)
    assert abs(result - exact) <= abs(exact) * 2**-52
    if abs(exact) < 2**64:
        assert result == float(exact)


@settings(deadline=None)  # the first call compiles
@given(INTEGERS, INTEGERS, st.integers(-9, 9))
def test_difference_of_equal_products_is_exactly_zero(a, b, rest):
    assert difference_of_products(a, b, a, b) == 0
    if abs(a) < 2**61:
        assert difference_of_products(a, b, b, a + rest) == -float(rest * b)
