"""What becomes of an artifact in the folder of a version: the file of a native backend, or what the runner opens."""

import shutil
from pathlib import Path

from services.common.errors import MeshError, Reason
from services.deployer.adapters.artifact_forms import look_at
from services.deployer.domain.artifact_facts import Form
from services.deployer.domain.native import Choice, choose
from services.deployer.domain.package import Package, Served

_UNPACKED = "unpacked"


def settle(version: Path, package: Package) -> tuple[Served, Path, str]:
    """Looks at the artifact in `version`, moves it to where what runs it looks for it, and says which that is, where it
    is now, and the configuration for it.

    Raises FRAMEWORK_UNSUPPORTED where neither a native backend nor the runner can do what is wished.
    """
    artifact = version / package.artifact_name
    choice = _choice(artifact, package)
    if not isinstance(choice, str):
        found, made = choice
        assert package.native is not None, "it was chosen from"
        return Served(package.native.backend), _moved(artifact, found, version / made.file, made), made.config
    if package.runner_problem:
        raise MeshError(
            Reason.FRAMEWORK_UNSUPPORTED,
            f"no GPU can run the version: {package.runner_problem}, and {choice}; deploy it with resources.gpu 0",
        )
    return Served(because=choice), artifact, package.config


def _choice(artifact: Path, package: Package) -> tuple[Path, Choice] | str:
    if package.native is None:
        return package.because
    found, facts = look_at(artifact, package.native.framework)
    choice = choose(package.native, facts)
    return choice if isinstance(choice, str) else (found, choice)


def _moved(artifact: Path, found: Path, to: Path, choice: Choice) -> Path:
    """The model that was found in the artifact, moved to `to`; nothing else of the artifact stays."""
    if artifact.is_file():
        return artifact.rename(to)
    # An ONNX file may have its weights in others beside it, and is called model.onnx in a folder of that name.
    beside = choice.form is Form.ONNX
    unpacked = artifact.rename(artifact.with_name(_UNPACKED))
    model = unpacked / found.relative_to(artifact)
    (model.parent if beside else model).rename(to)
    if beside:
        (to / model.name).rename(to / choice.file)
    shutil.rmtree(unpacked, ignore_errors=True)
    return to
