"""The server keeps to its OpenAPI document, whatever is made of it; `tests/soak/schemathesis.toml` has the checks."""

from tests.soak.home import token_for
from tests.soak.schema import check_schema


def test_the_server_keeps_to_its_openapi_document(spare, tmp_path):
    url, home = spare
    kept, said = check_schema(url, token_for(home), examples=3, seconds=30, seed=1, folder=tmp_path)
    assert kept, said
