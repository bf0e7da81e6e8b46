"""A registry that tests may stop and start again, and what registering digits takes."""

from dataclasses import dataclass

import grpc
import orjson
from google.protobuf import json_format
from infermesh.registry.v1 import registry_service_pb2, registry_service_pb2_grpc

from services.common.clock import SystemClock
from services.common.grpc.channel import open_channel
from services.common.lifecycle import Lifecycle
from services.registry.settings import RegistrySettings
from services.registry.wiring import build
from services.supervisor.settings import ROOT

DIGITS = ROOT / ".build" / "digits"
OLD, NEW = "v1.0.0", "v1.1.0"
Create = registry_service_pb2.CreateModelRequest


def digits(trained_version: str = OLD, /, **change: object) -> Create:
    """The call that registers a version of digits, with fields changed."""
    trained = orjson.loads((DIGITS / f"digits-{trained_version}.json").read_bytes())
    trained["artifact_uri"] = (DIGITS / trained.pop("artifact")).as_uri()
    return json_format.ParseDict({**trained, **change}, Create())


@dataclass
class Registry:
    """The service, in this process, and a client of it."""

    settings: RegistrySettings
    lifecycle: Lifecycle | None = None
    channel: grpc.aio.Channel | None = None
    address: str = ""

    async def start(self) -> None:
        built = build(self.settings, clock=SystemClock())
        await built.lifecycle.start()
        self.lifecycle = built.lifecycle
        self.address = f"127.0.0.1:{built.server.port}"
        self.channel = open_channel(self.address)

    async def stop(self) -> None:
        if self.channel is not None and self.lifecycle is not None:
            await self.channel.close(None)
            await self.lifecycle.stop()
            self.channel = self.lifecycle = None

    @property
    def calls(self) -> "registry_service_pb2_grpc.RegistryServiceAsyncStub":
        assert self.channel is not None
        return registry_service_pb2_grpc.RegistryServiceStub(self.channel)
