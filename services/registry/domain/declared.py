"""What a caller declares of one feature, in whichever form."""

from dataclasses import dataclass, replace

from services.common.schema import DataType, TensorSpec

_DATA_TYPES = {
    "string": DataType.BYTES,
    "object": DataType.BYTES,
    "int": DataType.INT64,
    "float": DataType.FP32,
    "bool": DataType.BOOL,
}


@dataclass(frozen=True, slots=True)
class Declared:
    """What a caller says of a feature: the kind of its elements, its dimensions (-1: of any size), and its limits."""

    kind: str
    dims: tuple[int, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] = ()
    default_json: str = ""
    data_type: DataType | None = None
    """The exact element type, where a JSON Schema's `format` names it."""

    def spec(self, name: str) -> TensorSpec:
        """The tensor that this stands for where nothing else says it: objects as JSON text, floats as FP32."""
        return self.limit(TensorSpec(name, self.data_type or _DATA_TYPES[self.kind], self.dims))

    def limit(self, spec: TensorSpec) -> TensorSpec:
        """`spec` with the limits and the default that it does not have yet."""
        return replace(
            spec,
            minimum=spec.minimum if spec.minimum is not None else self.minimum,
            maximum=spec.maximum if spec.maximum is not None else self.maximum,
            categories=spec.categories or self.categories,
            default_json=spec.default_json or self.default_json,
            optional=spec.optional or bool(self.default_json),
        )

    def __str__(self) -> str:
        return "array<" * len(self.dims) + self.kind + ">" * len(self.dims)
