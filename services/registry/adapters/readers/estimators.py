"""What a scikit-learn estimator takes and gives, of the attributes that fitting leaves in it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.common.schema import DataType
from services.registry.domain.schemas import StatedSchema, StatedTensor

_NESTED_MAX = 16
_FEATURES_MAX = 4096
_NAME_LENGTH_MAX = 256
_NOT_NUMBERS = ("ColumnTransformer", "Encoder", "Vectorizer", "FunctionTransformer", "Binarizer")
"""Of what these take, the names alone do not tell the types."""
_WITHOUT_PROBABILITIES = ("LinearSVC", "SVC", "NuSVC", "RidgeClassifier", "RidgeClassifierCV", "Perceptron")
_MAYBE_PROBABILITIES = ("SGDClassifier", "PassiveAggressiveClassifier", "NearestCentroid")


@dataclass(frozen=True, slots=True)
class Estimator:
    """One estimator: its class with its module, its attributes by name, and all classes that it is made of.

    An attribute is a number, a text, a list of these, another estimator, a list of those, or None.
    """

    name: str
    attribute: Callable[[str], object]
    made_of: Sequence[str]

    @property
    def class_name(self) -> str:
        """The class alone."""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class EstimatorFacts:
    """What is stated, the names of its classes, and what stays open."""

    stated: StatedSchema
    version: str
    class_names: tuple[str, ...]
    undeclared: str


def facts_of(estimator: Estimator) -> EstimatorFacts:
    """Reads an estimator, or the pipeline or search around one."""
    chain = _chain(estimator)
    version = next((v for one in chain if isinstance(v := one.attribute("_sklearn_version"), str)), "")[:64]
    inputs, open_inputs = _inputs(chain, estimator.made_of)
    outputs, names = _outputs(chain[-1])
    left = [text for text in (open_inputs, "" if outputs else f"what {chain[-1].class_name} gives") if text]
    undeclared = f"it does not say {' nor '.join(left)}" if left else ""
    return EstimatorFacts(StatedSchema(inputs, outputs), version, names, undeclared)


def _chain(estimator: Estimator) -> Sequence[Estimator]:
    """From the outermost to the one that decides."""
    chain = [estimator]
    for _ in range(_NESTED_MAX):
        inner = chain[-1].attribute("best_estimator_")
        steps = chain[-1].attribute("steps")
        if chain[-1].class_name == "Pipeline" and isinstance(steps, list):
            # The first step knows the features, the last one the classes.
            found = [step for step in steps if isinstance(step, Estimator)]
            chain += [*found[:1], *found[-1:]]
            if not found:
                return chain
        elif isinstance(inner, Estimator):
            chain.append(inner)
        else:
            return chain
    return chain


def _inputs(chain: Sequence[Estimator], made_of: Sequence[str]) -> tuple[tuple[StatedTensor, ...], str]:
    names = next((v for one in chain if isinstance(v := one.attribute("feature_names_in_"), list) and v), None)
    count = next((v for one in chain[:-1] or chain if _is_count(v := one.attribute("n_features_in_"))), None)
    if names is not None and all(isinstance(name, str) and _is_name(name) for name in names):
        texts = [str(name) for name in names]
        plain = not any(word in name for name in made_of for word in _NOT_NUMBERS)
        if plain and len(texts) <= _FEATURES_MAX and len(set(texts)) == len(texts):
            return tuple(StatedTensor(name, DataType.FP64, ()) for name in texts), ""
        return (), f"the types of its features ({', '.join(texts[:20])}{', …' if len(texts) > 20 else ''})"
    if isinstance(count, int) and not any(word in name for name in made_of for word in _NOT_NUMBERS):
        return (StatedTensor("X", DataType.FP64, (count,)),), ""
    return (), "the types of its features" if isinstance(count, int) else "what its features are"


def _outputs(last: Estimator) -> tuple[tuple[StatedTensor, ...], tuple[str, ...]]:
    classes = last.attribute("classes_")
    if isinstance(classes, list) and classes:
        kinds = {type(one) for one in classes}
        whole = kinds <= {int, bool, float} and all(float(one).is_integer() for one in classes)
        if not whole and kinds != {str}:
            return (), ()
        label = StatedTensor("label", DataType.INT64 if whole else DataType.BYTES, ())
        names = tuple(str(int(one)) if whole else str(one) for one in classes)
        if last.class_name in _MAYBE_PROBABILITIES or (
            last.class_name in _WITHOUT_PROBABILITIES and last.attribute("probability") is not True
        ):
            return (label,), ()
        return (label, StatedTensor("probabilities", DataType.FP64, (len(classes),))), names
    if last.class_name.endswith(("Regressor", "Regression", "SVR", "RegressorCV")) or last.class_name in _REGRESSORS:
        many = last.attribute("n_outputs_")
        shape = (many,) if isinstance(many, int) and many > 1 else ()
        return (StatedTensor("output", DataType.FP64, shape),), ()
    return (), ()


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def _is_name(name: str) -> bool:
    return 0 < len(name) <= _NAME_LENGTH_MAX and name.isprintable()


_REGRESSORS = ("Ridge", "RidgeCV", "Lasso", "LassoCV", "ElasticNet", "ElasticNetCV", "BayesianRidge", "Lars", "SVR")
