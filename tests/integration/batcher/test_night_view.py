"""The operators' page of a whole batcher, as `curl` gets it."""

from pathlib import Path
from typing import Any

import grpc
import httpx

from tests.integration.batcher.test_face_trace import Made, batching, line_request, occupied
from tests.support.batcher_faces_calls import address_of


async def page(made: Made) -> Any:
    """The page as of now."""
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://{address_of(made.part)}/debug/batcher", timeout=5)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    return answer.json()


async def test_it_says_what_waits_what_runs_and_what_went_wrong(tmp_path: Path) -> None:
    async with batching(tmp_path) as (made, model):
        calls = await occupied(made)
        told = await page(made)
        assert told["requests"]["active"] == len(calls)
        assert told["waiting_for"] == []
        assert told["serving"]["models"] == 1
        [lane] = told["lanes"]["shown"]
        assert (lane["model"], lane["version"], lane["requests_waiting"]) == ("line", "v1.0.0", 1)
        assert lane["batches_in_flight"] == lane["backends"][0]["batches"] == len(calls) - 1
        assert lane["backends"][0]["why_not"].startswith("full: ")
        model.guilty = 7
        calls.append(made.stub.Predict(line_request(7), timeout=20))
        model.go.set()
        assert await calls.pop().code() is not grpc.StatusCode.OK
        for call in calls:
            await call
        told = await page(made)
        [lane] = told["lanes"]["shown"]
        assert lane["learned"]["in_flight_per_backend"] >= 1
        assert told["engine"]["since_start"]["failed"] == 1
        [failed] = told["last_failures"]
        assert (failed["request_id"], failed["reason"], failed["model"]) == ("r7", "MODEL_FAILED", "line")
        assert "no such row" in failed["message"]
