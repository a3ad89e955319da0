"""ASGI middleware: unhandled errors, metrics, allowed paths, security headers and the limit on bodies."""

import asyncio
import logging

import httpx
import pytest
from fastapi import FastAPI, Request

from vigil.serving.api.known_paths import KnownPaths
from vigil.serving.api.middleware import (
    AllowedPathsMiddleware,
    BodySizeLimitMiddleware,
    RequestMetricsMiddleware,
    SecurityHeadersMiddleware,
    UnhandledErrorMiddleware,
)

SECRET = "sim-000017 heart_rate 112"


def test_unhandled_error_is_a_problem_without_its_message_in_log_or_answer(caplog):
    app = FastAPI()
    app.add_middleware(UnhandledErrorMiddleware)

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


def test_unhandled_error_within_an_answer_cuts_it_off_without_a_second_answer(caplog):
    sent = []

    async def fail(_scope, _receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError(SECRET)

    async def send(message):
        sent.append(message["type"])

    with caplog.at_level(logging.ERROR):
        asyncio.run(UnhandledErrorMiddleware(fail)({"type": "http"}, None, send))
    assert sent == ["http.response.start"]
    assert "unexpected RuntimeError at" in caplog.text


class FakeMetrics:
    """Metrics that keep a list of recorded requests."""

    def __init__(self):
        self.requests = []

    def observe_request(self, path, status, seconds):
        assert 0 <= seconds < 60
        self.requests.append((path, status))


async def echo(body: Request):
    return {"bytes": len(await body.body())}


def create_app():
    app = FastAPI()
    app.post("/v1/echo")(echo)
    return app


def request(app, method, path, base_url="http://test", **options):
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base_url)
    return asyncio.run(client.request(method, path, **options))


def test_request_metrics_label_an_unknown_path_as_other():
    metrics = FakeMetrics()
    app = RequestMetricsMiddleware(create_app(), paths=KnownPaths(["/v1/echo"]), metrics=metrics)
    for method, path in (("POST", "/v1/echo"), ("GET", "/v1/echo"), ("GET", f"/{SECRET}"), ("GET", "/metrics")):
        request(app, method, path)
    assert metrics.requests == [("/v1/echo", 200), ("/v1/echo", 405), ("other", 404)]


def test_allowed_paths_are_the_only_ones_that_are_served():
    app = AllowedPathsMiddleware(create_app(), paths=KnownPaths(["/v1/echo"]))
    assert request(app, "POST", "/v1/echo").status_code == 200
    assert request(app, "GET", "/").headers["location"] == "/wards"
    unknown = [request(app, "GET", path) for path in ("/docs", "/openapi.json", "/v1/echo/", "/v1")]
    assert {(answer.status_code, answer.json()["code"]) for answer in unknown} == {(404, "not_found")}


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_security_headers_are_in_every_answer(scheme):
    app = SecurityHeadersMiddleware(create_app())
    for path in ("/v1/echo", "/nowhere"):
        headers = request(app, "POST", path, base_url=f"{scheme}://test").headers
        assert headers["cache-control"] == "no-store"
        assert ("strict-transport-security" in headers) == (scheme == "https")


@pytest.mark.parametrize(("size", "status"), [(0, 200), (100, 200), (101, 413), (5_000, 413)])
@pytest.mark.parametrize("chunk", [None, 7])
def test_body_limit_accepts_a_body_of_the_limit_and_refuses_one_byte_more(size, status, chunk):
    async def chunks():
        for first in range(0, size, chunk):
            yield b"x" * min(chunk, size - first)

    content = b"x" * size if chunk is None else chunks()
    answer = request(BodySizeLimitMiddleware(create_app(), max_bytes=100), "POST", "/v1/echo", content=content)
    assert answer.status_code == status
    assert status == 413 or answer.json() == {"bytes": size}
