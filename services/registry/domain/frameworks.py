"""What is understood of an artifact, and how that agrees with what its caller says it is."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from services.common.errors import MeshError, Reason
from services.registry.domain.schemas import StatedSchema
from services.registry.domain.version import Artifact, Lineage


@dataclass(frozen=True, slots=True)
class Understood:
    """An artifact as it was recognised. Texts are empty where it does not say."""

    framework: str
    form: str
    """What it is, for sentences: "an ONNX file", "a TensorFlow SavedModel"."""
    stated: StatedSchema = field(default_factory=StatedSchema)
    framework_version: str = ""
    class_names: tuple[str, ...] = ()
    lineage: Lineage = field(default_factory=Lineage)
    model_path: str = ""
    """Which of its files is the model; empty where it is one file or all of them are."""
    unsafe: str = ""
    """Why loading it runs code that came with it, as a clause; empty where it does not."""
    problem: str = ""
    """Why no server could load it, with what to do; empty where one could."""
    undeclared: str = ""
    """What of its schema it leaves open and why, as a sentence; empty where it states all or has nothing to say."""


def check_framework(asked: str, seen: Understood, artifact: Artifact) -> None:
    """Raises ARTIFACT_INVALID where the caller says that the artifact is of another framework than it is."""
    if asked and asked != seen.framework:
        raise MeshError(
            Reason.ARTIFACT_INVALID,
            f"the artifact {name_of(artifact)} cannot be registered as {asked}: it is {seen.form}; register it as "
            f"{seen.framework!r}, or leave framework out",
            metadata={"artifact_digest": artifact.digest, "framework": seen.framework},
        )


def check_loadable(seen: Understood, artifact: Artifact) -> None:
    """Raises ARTIFACT_INVALID where no server could load it."""
    if seen.problem:
        raise _refused(artifact, seen, seen.problem)


def check_safe(seen: Understood, artifact: Artifact, *, allowed: bool, team: str) -> None:
    """Raises ARTIFACT_INVALID for one that runs code while it loads, unless that is allowed."""
    if seen.unsafe and not allowed:
        who = (
            f"the team {team!r} does not allow that: its admins can (allow_unsafe_artifacts)"
            if team
            else "that is not allowed without a team: INFERMESH_REGISTRY_ALLOW_UNSAFE_ARTIFACTS does"
        )
        raise _refused(artifact, seen, f"{seen.unsafe}, and {who}; {_SAFER.get(seen.framework, _SAFER_ANY)}")


def completed(lineage: Lineage, stated: Lineage) -> Lineage:
    """What the caller says of the lineage, and where that is nothing what the artifact says."""
    return replace(lineage, training_run=lineage.training_run or stated.training_run)


def no_reader(artifact: Artifact, why_not: Sequence[str]) -> MeshError:
    """ARTIFACT_INVALID for one that nothing recognises, with what each reader says."""
    return MeshError(
        Reason.ARTIFACT_INVALID,
        f"the artifact {name_of(artifact)} is of no kind that is known: " + "; ".join(why_not),
        metadata={"artifact_digest": artifact.digest},
    )


def refused(artifact: Artifact, form: str, problem: str, advice: str) -> MeshError:
    """ARTIFACT_INVALID for one that was recognised and cannot be taken."""
    return MeshError(
        Reason.ARTIFACT_INVALID,
        f"the artifact {name_of(artifact)} cannot be registered as {form}: {problem}; {advice}",
        metadata={"artifact_digest": artifact.digest},
    )


def name_of(artifact: Artifact) -> str:
    """What people call it."""
    return artifact.filename or artifact.digest


def _refused(artifact: Artifact, seen: Understood, problem: str) -> MeshError:
    return MeshError(
        Reason.ARTIFACT_INVALID,
        f"the artifact {name_of(artifact)} cannot be registered: it is {seen.form}; {problem}",
        metadata={"artifact_digest": artifact.digest, "framework": seen.framework},
    )


_SAFER_ANY = "save the model in a form that holds data only"
_SAFER = {
    "sklearn": "skops.io.dump or skl2onnx save the same model as data",
    "pytorch": "torch.export.save, torch.jit.save or torch.onnx.export save the same model as data",
    "xgboost": 'booster.save_model("model.ubj") saves the same model as data',
    "lightgbm": 'booster.save_model("model.txt") saves the same model as data',
    "python": "export the model to ONNX, or to the form of its own framework",
}
