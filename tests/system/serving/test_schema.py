"""The server conforms to its OpenAPI document; `tests/soak/schemathesis.toml` holds the checks."""

from tests.soak.home import token_for
from tests.soak.schema import check_schema


def test_openapi_document_is_what_the_server_does(spare, tmp_path):
    url, home = spare
    conforms, output = check_schema(url, token_for(home), examples=3, seconds=30, seed=1, folder=tmp_path)
    assert conforms, output
