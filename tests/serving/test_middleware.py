"""What no request may bring the server to say."""

import asyncio
import logging

import httpx
from fastapi import FastAPI

from serving.middleware import LastResort

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
