"""How a version's outputs become predictions, found where the caller does not say it."""

from collections.abc import Sequence
from dataclasses import replace

from services.common.schema import ModelSchema, PredictionMapping, TensorSpec
from services.registry.domain.violations import Violations

_LABELS = ("label", "output_label")
_PROBABILITIES = ("probabilities", "probability", "output_probability")


def agree_mapping(
    mapping: PredictionMapping, schema: ModelSchema, class_names: Sequence[str], *, stated_names: Sequence[str] = ()
) -> PredictionMapping:
    """The mapping with empty fields found: outputs by their usual names, classes out of the metadata, or those that the
    artifact states.

    Raises INVALID_FIELD where it names what the model has not, or where classes and probabilities differ in number.
    """
    outputs = {spec.name: spec for spec in schema.outputs}
    violations = Violations()
    for field, name in (
        ("mapping.output_tensor", mapping.output_tensor),
        ("mapping.probabilities_tensor", mapping.probabilities_tensor),
    ):
        violations.unless(not name or name in outputs, field, name, "one of the outputs: " + ", ".join(outputs))
    violations.raise_if_any()
    label = mapping.output_tensor or next((name for name in _LABELS if name in outputs), schema.outputs[0].name)
    probabilities = mapping.probabilities_tensor or next(
        (name for name in _PROBABILITIES if name in outputs and _may_be_probabilities(outputs[name])), ""
    )
    classes = mapping.class_names or tuple(class_names)
    if not classes and probabilities and outputs[probabilities].shape in ((-1,), (len(stated_names),)):
        classes = tuple(stated_names)
    if probabilities:
        _check_classes(outputs[probabilities], mapping, classes, violations)
    violations.raise_if_any()
    return replace(mapping, output_tensor=label, probabilities_tensor=probabilities, class_names=classes)


def _check_classes(
    spec: TensorSpec, mapping: PredictionMapping, classes: Sequence[str], violations: Violations
) -> None:
    violations.unless(
        _may_be_probabilities(spec),
        "mapping.probabilities_tensor",
        spec.name,
        f"an output with one float for each class; it is {spec.data_type} of shape {list(spec.shape)}",
    )
    count = spec.shape[0] if len(spec.shape) == 1 else -1
    field = "mapping.class_names" if mapping.class_names else "metadata.class_names"
    fits = not classes or count in (-1, len(classes))
    violations.unless(fits, field, list(classes), f"{count} names, one for each value of {spec.name!r}")


def _may_be_probabilities(spec: TensorSpec) -> bool:
    return spec.data_type.is_float and len(spec.shape) == 1
