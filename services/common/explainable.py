"""Whether the predictions of a version can be explained at all, as far as that follows from what is registered."""

from math import prod

from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec

WITHOUT_SAMPLE = (
    "it was registered without a reference sample; versions never change, so register a new one with "
    "reference_sample, 1 to 256 instances of the training data (infermesh register --reference PATH)"
)


def why_outputs_unexplained(schema: ModelSchema, mapping: PredictionMapping) -> str:
    """What keeps a version's outputs from being explained, as a clause; empty: nothing. Explained is the probability of
    the class that was predicted; without probabilities the output itself, which must then be one number."""
    outputs = {spec.name: spec for spec in schema.outputs}
    by_class = bool(mapping.probabilities_tensor)
    output = mapping.output_tensor or (schema.outputs[0].name if schema.outputs else "")
    spec = outputs.get(mapping.probabilities_tensor if by_class else output)
    if spec is None:
        return "it states no output"
    if spec.data_type is DataType.BYTES:
        return f"its output {spec.name} is text; register it with its probabilities"
    if by_class:
        return ""
    if spec.data_type.is_integer and mapping.class_names:
        return f"its output {spec.name} names a class; register it with its probabilities as an output"
    # An open dimension may turn out to be one.
    if all(size >= 0 for size in spec.shape) and prod(spec.shape) != 1:
        return f"its output {spec.name} is {_words(spec)}, and only an output of one number can be explained"
    return ""


def _words(spec: TensorSpec) -> str:
    return f"{spec.data_type.value}[{','.join(map(str, spec.shape))}]"
