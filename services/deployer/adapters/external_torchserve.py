"""TorchServe as an external server, over REST, by the convention that docs/architecture/external.md tells."""

from collections.abc import Mapping, Sequence
from urllib.parse import quote

from services.common.schema import ModelSchema
from services.deployer.adapters.external_wire import (
    HttpSpeaker,
    Json,
    Model,
    Target,
    nested,
    not_there,
    shape_of,
    trial_failed,
)
from services.deployer.domain.trial import Tensor, TensorShape


class TorchServe(HttpSpeaker):
    """A `Speech`."""

    def __init__(self, target: Target, model: Model) -> None:
        super().__init__(target, model)
        self._path = f"/predictions/{quote(model.name, safe='')}"
        if model.version:
            self._path += f"/{quote(model.version, safe='')}"

    async def ready(self) -> bool:
        """Whether its inference address knows the model; whether a worker has it, the trial shows."""
        return (await self.look("OPTIONS", self._path)).is_success

    async def schema(self) -> ModelSchema | None:
        """It does not say, but for whether it has the model."""
        if not await self.ready():
            raise not_there(self.address, self.model, "it knows no such model")
        return None

    async def infer(self, inputs: Sequence[Tensor], wanted: ModelSchema) -> Mapping[str, TensorShape]:
        """One prediction. JSON has no element types: they are the schema's."""
        columns = {one.name: nested(one) for one in inputs}
        if len(columns) == 1:
            (instances,) = columns.values()
        else:
            instances = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        said = await self.trial(self._path, {"instances": instances})
        rows = said.get("predictions") if isinstance(said, dict) else said
        if not isinstance(rows, list):
            raise trial_failed(self.address, self.model, 'its answer is neither {"predictions": [...]} nor a list')
        only = len(wanted.outputs) == 1
        found = {}
        for spec in wanted.outputs:
            values: list[Json] = [
                row[spec.name] if isinstance(row, dict) and spec.name in row else row
                for row in rows
                if only or (isinstance(row, dict) and spec.name in row)
            ]
            if values:
                found[spec.name] = TensorShape(spec.data_type.value, shape_of(values))
        return found

    async def software(self) -> str:
        """It says nothing of itself on its inference address."""
        return "TorchServe"
