"""External servers in memory, under the real observation of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.common.errors import MeshError, Reason
from services.common.schema import ModelSchema
from services.deployer.adapters.external import ExternalModelServer
from services.deployer.domain.catalog import Place
from services.deployer.domain.external import ExternalBackend
from services.deployer.domain.trial import Tensor, TensorShape
from tests.support.deployer_fakes import DIGITS_SCHEMA


@dataclass(eq=False)
class FakeSpeech:
    """A server that answers as it is set."""

    up: bool = True
    has_model: bool = True
    is_ready: bool = True
    stated: ModelSchema | None = DIGITS_SCHEMA
    wrong: bool = False
    """Whether its predictions are not what the schema says."""
    trials: int = 0

    async def ready(self) -> bool:
        """Whether it has the model."""
        self._reach()
        return self.has_model and self.is_ready

    async def schema(self) -> ModelSchema | None:
        """What it states."""
        self._reach()
        if not self.has_model:
            raise MeshError(Reason.LOAD_FAILED, "it knows no such model")
        return self.stated

    async def infer(self, inputs: Sequence[Tensor], wanted: ModelSchema) -> Mapping[str, TensorShape]:
        """What the schema says, or not."""
        self._reach()
        self.trials += 1
        rows = inputs[0].shape[0] + self.wrong
        return {spec.name: TensorShape(spec.data_type.value, (rows, *spec.shape)) for spec in wanted.outputs}

    async def software(self) -> str:
        """What it is."""
        return "fake 1"

    async def close(self) -> None:
        """Nothing is open."""

    def _reach(self) -> None:
        if not self.up:
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "it does not answer")


@dataclass
class Outside:
    """An `ExternalServers` that makes up a server for every address."""

    speeches: dict[str, FakeSpeech] = field(default_factory=dict)

    def at(self, address: str) -> FakeSpeech:
        """The server there."""
        return self.speeches.setdefault(address, FakeSpeech())

    def __call__(
        self,
        external: ExternalBackend,
        address: str,
        *,
        model_name: str,
        name: str,
        schema: ModelSchema | None,
        team: str,
    ) -> ExternalModelServer:
        """The server there, as one deployment sees it."""
        return ExternalModelServer(Place(address, address, ""), self.at(address), name=name, schema=schema)
