"""What no request may bring the server to say."""

import asyncio
import logging

import httpx
import pytest
from fastapi import FastAPI, Request

from serving.api.middleware import BodyLimit, KnownPaths, LastResort, RequestMetrics, SecurityHeaders

SECRET = "sim-000017 heart_rate 112"


def test_an_unforeseen_error_is_a_problem_and_its_message_is_kept_from_log_and_answer(caplog):
    app = FastAPI()
    app.add_middleware(LastResort)

    @app.get("/")
    async def fail():
        raise RuntimeError(SECRET)

    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")
    with caplog.at_level(logging.DEBUG):
        answer = asyncio.run(client.get("/"))
    assert (answer.status_code, answer.json()["code"]) == (500, "unexpected_error")
    assert SECRET not in answer.text
    assert SECRET not in caplog.text
    assert "unexpected RuntimeError at" in caplog.text
    assert "test_middleware.py" in caplog.text


def test_an_error_within_an_answer_breaks_it_off_and_begins_no_second(caplog):
    sent = []

    async def fail(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError(SECRET)

    async def send(message):
        sent.append(message["type"])

    with caplog.at_level(logging.ERROR):
        asyncio.run(LastResort(fail)({"type": "http"}, None, send))
    assert sent == ["http.response.start"]
    assert "unexpected RuntimeError at" in caplog.text


class Noted:
    """In the place of the metrics: what they are told."""

    def __init__(self):
        self.told = []

    def answered(self, path, status, seconds):
        assert 0 <= seconds < 60
        self.told.append((path, status))


async def echo(request: Request):
    return {"bytes": len(await request.body())}


def app():
    made = FastAPI()
    made.post("/v1/echo")(echo)
    return made


def ask(wrapped, method, path, base_url="http://test", **more):
    client = httpx.AsyncClient(transport=httpx.ASGITransport(wrapped), base_url=base_url)
    return asyncio.run(client.request(method, path, **more))


def test_a_path_that_somebody_made_up_is_nobodys_label():
    metrics = Noted()
    wrapped = RequestMetrics(app(), paths=["/v1/echo"], metrics=metrics)
    for method, path in (("POST", "/v1/echo"), ("GET", "/v1/echo"), ("GET", f"/{SECRET}"), ("GET", "/metrics")):
        ask(wrapped, method, path)
    assert metrics.told == [("/v1/echo", 200), ("/v1/echo", 405), ("other", 404)]


def test_only_what_is_known_is_offered():
    wrapped = KnownPaths(app(), paths=["/v1/echo"])
    assert ask(wrapped, "POST", "/v1/echo").status_code == 200
    assert ask(wrapped, "GET", "/").headers["location"] == "/v1/docs"
    unknown = [ask(wrapped, "GET", path) for path in ("/docs", "/openapi.json", "/v1/echo/", "/v1")]
    assert {(answer.status_code, answer.json()["code"]) for answer in unknown} == {(404, "not_found")}


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_every_answer_says_what_may_be_done_with_it(scheme):
    wrapped = SecurityHeaders(app())
    for path in ("/v1/echo", "/nowhere"):
        headers = ask(wrapped, "POST", path, base_url=f"{scheme}://test").headers
        assert headers["cache-control"] == "no-store"
        assert ("strict-transport-security" in headers) == (scheme == "https")


@pytest.mark.parametrize(("size", "status"), [(0, 200), (100, 200), (101, 413), (5_000, 413)])
@pytest.mark.parametrize("chunk", [None, 7])
def test_a_body_of_just_the_limit_passes_and_one_byte_more_does_not(size, status, chunk):
    async def parts():
        for first in range(0, size, chunk):
            yield b"x" * min(chunk, size - first)

    answer = ask(BodyLimit(app(), max_bytes=100), "POST", "/v1/echo", content=b"x" * size if chunk is None else parts())
    assert answer.status_code == status
    assert status == 413 or answer.json() == {"bytes": size}
