"""A model's configuration as Triton reads it: config.pbtxt, in the text format of protobuf's ModelConfig.

Triton batches nothing: `max_batch_size` is 0 and the first of the dimensions is the batch that the batcher made, for
all backends that can be told so.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.common.schema import DataType, TensorSpec
from services.deployer.domain.equipment import Group

_TYPES = {data_type: f"TYPE_{data_type.value}" for data_type in DataType} | {DataType.BYTES: "TYPE_STRING"}


@dataclass(frozen=True, slots=True)
class Accelerator:
    """What a backend computes a model with on a GPU."""

    name: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TritonConfig:
    """All that a configuration of ours says."""

    name: str
    backend: str
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    groups: Sequence[Group]
    platform: str = ""
    max_batch_size: int = 0
    """0: the batch is the first dimension, and said so; else Triton adds it, and it is left out of the dimensions."""
    file: str = ""
    """The file or folder that the backend loads; empty: the one that it looks for."""
    accelerator: Accelerator | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    warmup_rows: Sequence[int] = ()
    """Batches of zeros that are computed while the model is loaded, by their rows. For inputs of fixed sizes."""

    def text(self) -> str:
        """The file. Equal for equal configurations, so that it tells whether anything changed."""
        optional = [line for line in (self._file(), self._accelerator()) if line]
        return "\n".join(
            [
                f"name: {json.dumps(self.name)}",
                f"backend: {json.dumps(self.backend)}",
                *([f"platform: {json.dumps(self.platform)}"] if self.platform else []),
                f"max_batch_size: {self.max_batch_size}",
                f"input [\n{self._tensors(self.inputs, side='input')}\n]",
                f"output [\n{self._tensors(self.outputs, side='output')}\n]",
                f"instance_group [ {', '.join(_group(group) for group in self.groups)} ]",
                *optional,
                *(_parameter(key, value) for key, value in self.parameters.items()),
                *(self._warmup(rows) for rows in self.warmup_rows),
                "",
            ]
        )

    def _tensors(self, specs: Sequence[TensorSpec], *, side: str) -> str:
        batch = () if self.max_batch_size else (-1,)
        return ",\n".join(
            f"  {{ name: {_text(spec.name)} data_type: {_TYPES[spec.data_type]} {_dims((*batch, *spec.shape))}"
            f"{' optional: true' if spec.optional and side == 'input' else ''} }}"
            for spec in specs
        )

    def _file(self) -> str:
        return f"default_model_filename: {json.dumps(self.file)}" if self.file else ""

    def _accelerator(self) -> str:
        if self.accelerator is None:
            return ""
        parameters = "".join(
            f" parameters {{ key: {json.dumps(key)} value: {json.dumps(value)} }}"
            for key, value in self.accelerator.parameters.items()
        )
        return (
            "optimization { execution_accelerators {\n"
            f"  gpu_execution_accelerator [ {{ name: {json.dumps(self.accelerator.name)}{parameters} }} ]\n"
            "} }"
        )

    def _warmup(self, rows: int) -> str:
        inputs = "\n".join(
            f"  inputs {{ key: {_text(spec.name)} value {{ data_type: {_TYPES[spec.data_type]} "
            f"{_dims((rows, *spec.shape))} zero_data: true }} }}"
            for spec in self.inputs
        )
        return f'model_warmup {{\n  name: "{rows} rows" batch_size: 1\n{inputs}\n}}'


def _group(group: Group) -> str:
    if group.gpu is None:
        return f"{{ kind: KIND_CPU count: {group.count} }}"
    return f"{{ kind: KIND_GPU count: {group.count} gpus: [ {group.gpu} ] }}"


def _parameter(key: str, value: str) -> str:
    return f"parameters {{ key: {json.dumps(key)} value {{ string_value: {json.dumps(value)} }} }}"


def _dims(sizes: Sequence[int]) -> str:
    return f"dims: [ {', '.join(map(str, sizes))} ]"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
