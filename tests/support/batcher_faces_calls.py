"""What tests ask of a batcher from outside: predictions, its metrics, its log."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
import httpx
from infermesh.prediction.v1 import instance_pb2, prediction_pb2, prediction_service_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from services.supervisor.parts.part import Part

FEATURES = 64


def address_of(part: Part) -> str:
    """host:port of everything."""
    return f"127.0.0.1:{part.ports['batcher']}"


def digits_request(*, label: float = 1.0, **fields: Any) -> prediction_pb2.PredictRequest:
    """One row that an echo labels so."""
    values = [label, *([0.0] * (FEATURES - 1))]
    feature = instance_pb2.Feature(float_list=instance_pb2.FloatList(values=values))
    return prediction_pb2.PredictRequest(
        **{"model_name": "digits", "instances": [instance_pb2.Instance(features={"X": feature})], **fields}
    )


@asynccontextmanager
async def asking(part: Part) -> AsyncIterator[Any]:
    """A stub of the prediction service."""
    async with grpc.aio.insecure_channel(address_of(part)) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


async def scraped(part: Part) -> Mapping[str, float]:
    """Each sample's name, without labels, with the sum over its labels."""
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"http://{address_of(part)}/metrics", timeout=5)).text
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def logged(part: Part) -> list[dict[str, object]]:
    """The process's log: every line must be JSON."""
    return [json.loads(line) for line in part.log_path.read_text().splitlines() if line]


def events(part: Part, *, level: str) -> list[object]:
    """What was logged at that level, with its exception where there is one."""
    return [
        entry.get("exception") or f"{entry['event']}: {entry.get('error', entry.get('reason', ''))}"
        for entry in logged(part)
        if entry["level"] == level
    ]
