"""Servers that users run themselves, by whatever protocol they have: observed, proven, and left as they are."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from services.common.errors import MeshError, Reason
from services.common.outside_credentials import Credentials, credential_of
from services.common.outside_tls import OutsideTls
from services.common.schema import ModelSchema
from services.deployer.adapters.external_oip import OipGrpc, OipRest
from services.deployer.adapters.external_tensorflow import TensorFlowGrpc, TensorFlowRest
from services.deployer.adapters.external_torchserve import TorchServe
from services.deployer.adapters.external_wire import BlockedError, Model, Target
from services.deployer.domain import external as domain
from services.deployer.domain.catalog import Place
from services.deployer.domain.external import ExternalBackend, check_stated
from services.deployer.domain.plan import ServerState
from services.deployer.domain.trial import Tensor, TensorShape


class Speech(Protocol):
    """What is said to a server about one model. Whatever takes too long or does not answer raises
    DEPENDENCY_UNAVAILABLE."""

    async def ready(self) -> bool:
        """Whether it has the model and the model can answer. Takes no longer than about a second."""
        ...

    async def schema(self) -> ModelSchema | None:
        """What it states of the model. Raises LOAD_FAILED where it has none."""
        ...

    async def infer(self, inputs: Sequence[Tensor], wanted: ModelSchema) -> Mapping[str, TensorShape]:
        """One prediction. Raises WARMUP_FAILED."""
        ...

    async def software(self) -> str:
        """What the server is; empty where it does not say."""
        ...

    async def close(self) -> None:
        """Closes what is open."""
        ...


class ExternalModelServer:
    """An `ExternalServer`."""

    def __init__(self, place: Place, speech: Speech, *, name: str, schema: ModelSchema | None) -> None:
        self._place = place
        self._speech = speech
        self._name = name
        self._schema = schema
        self._doubted = False
        """Whether it was away since it was proven: it may have come back with another model."""
        self._let_go = False

    @property
    def place(self) -> Place:
        """Its address; it is its name, too."""
        return self._place

    async def observe(self) -> ServerState:
        """Whether it answers, and whether it has the model. What it had when the deployer started is believed, for
        rows say what was proven."""
        try:
            ready = await self._speech.ready()
        except BlockedError:
            # So that it is asked to load, which tells people what is wrong.
            self._doubted = True
            return ServerState(up=True)
        except MeshError:
            self._doubted = True
            return ServerState()
        serves = ready and not self._doubted and not self._let_go
        return ServerState(up=True, ready=frozenset({self._name}) if serves else frozenset())

    async def software(self) -> str:
        """What it says of itself."""
        try:
            return await self._speech.software()
        except MeshError:
            return ""

    async def schema(self) -> ModelSchema | None:
        """What it states."""
        return await self._speech.schema()

    async def load(self, name: str) -> None:
        """Sees whether it has the model, and that it is the one that the version is."""
        stated = await self._speech.schema()
        if stated is not None and self._schema is not None:
            check_stated(stated, self._schema, address=self._place.server_id)
        if not await self._speech.ready():
            raise MeshError(
                Reason.DEPENDENCY_UNAVAILABLE,
                f"the server at {self._place.server_id} is not ready to answer for {name} yet; it is tried again, see "
                "its log if that lasts",
                retry_after_s=1.0,
            )
        self._doubted, self._let_go = False, False

    async def unload(self, name: str) -> None:  # noqa: ARG002 - it has but one
        """Asks it no more. What it has loaded is its owner's affair."""
        self._let_go = True

    async def infer(self, name: str, inputs: Sequence[Tensor]) -> Mapping[str, TensorShape]:  # noqa: ARG002
        """One prediction."""
        return await self._speech.infer(inputs, self._schema or ModelSchema())

    async def close(self) -> None:
        """Closes what is open."""
        await self._speech.close()


def open_external(
    external: ExternalBackend,
    address: str,
    *,
    model_name: str,
    name: str,
    schema: ModelSchema | None,
    team: str,
    tls: OutsideTls | None = None,
    credentials: Credentials | None = None,
) -> ExternalModelServer:
    """An `ExternalServers`. `tls`: whose certificates are believed; None: those that this system believes.
    `credentials`: where they are kept; None: nowhere."""
    credential = credential_of(team, external.credentials)
    target = Target(address, tls or OutsideTls(), credential, credentials or Credentials())
    model = Model(external.server_model_name or model_name, external.server_model_version, external.signature_name)
    speech: Speech
    match external.speaks:
        case domain.Protocol.OIP_REST:
            speech = OipRest(target, model)
        case domain.Protocol.OIP_GRPC:
            speech = OipGrpc(target, model)
        case domain.Protocol.TENSORFLOW_REST:
            speech = TensorFlowRest(target, model)
        case domain.Protocol.TENSORFLOW_GRPC:
            speech = TensorFlowGrpc(target, model)
        case domain.Protocol.TORCHSERVE:
            speech = TorchServe(target, model)
    over_grpc = external.speaks.over_grpc
    place = Place(address, "" if over_grpc else address, address if over_grpc else "")
    return ExternalModelServer(place, speech, name=name, schema=schema)
