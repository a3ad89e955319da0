"""docs/conformance.md is made of the tests as they are."""

from tests.support.conformance import PAGE, page


def test_page_is_made_of_the_tests():
    assert PAGE.read_text() == page()
