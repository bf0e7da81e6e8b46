"""What the model servers have beside the python backend, and which copies of a model run on which device."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from services.common.errors import MeshError, Reason, invalid
from services.deployer.domain.deployment import Wish
from services.deployer.domain.scaling import acts

NATIVE_BACKENDS = ("onnxruntime", "pytorch", "tensorflow", "fil")
"""Triton's backends that run a framework's own files, by the names of their folders."""


@dataclass(frozen=True, slots=True)
class Equipment:
    """What every model server of the pool has. By default: Triton's python backend, and CPUs."""

    native_backends: frozenset[str] = frozenset()
    gpus: tuple[int, ...] = ()
    """The numbers of its GPUs, as CUDA counts them."""


CPUS_ALONE = Equipment()


@dataclass(frozen=True, slots=True)
class Group:
    """Copies of a model on one device. `gpu` None: on the CPU."""

    count: int
    gpu: int | None = None


def place_copies(name: str, copies: int, *, gpus: int, there: Sequence[int]) -> tuple[Group, ...]:
    """`copies` on the CPU where `gpus` is 0, else spread over so many of the GPUs that are there.

    Which ones follows from the name alone, so that models are spread, and none moves while nothing else changes.
    """
    if not gpus or not there:
        return (Group(copies),)
    first = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % len(there)
    chosen = [there[(first + number) % len(there)] for number in range(min(gpus, len(there)))]
    each, more = divmod(copies, len(chosen))
    groups = (Group(each + (number < more), gpu) for number, gpu in enumerate(chosen))
    return tuple(sorted((group for group in groups if group.count), key=lambda group: group.gpu or 0))


def check_devices(wish: Wish, equipment: Equipment) -> None:
    """Raises where a wish asks for GPUs, or for what needs them, that the model servers do not have."""
    gpu, precision, there = wish.resources.gpu, wish.serving.precision, len(equipment.gpus)
    if precision == "fp16" and not there:
        raise MeshError(
            Reason.NOT_IMPLEMENTED,
            "serving.precision is 'fp16'; half precision needs a GPU, and the local model servers have none to give; "
            "leave it out",
        )
    if precision == "fp16" and not gpu:
        raise invalid(
            "serving.precision", precision, "empty, fp32 or int8, unless resources.gpu asks for a GPU to compute it"
        )
    if precision == "int8" and gpu:
        raise invalid("resources.gpu", gpu, "0 with serving.precision int8, which is computed by the CPU; or fp16")
    if gpu:
        _check_gpus(wish, there)


def _check_gpus(wish: Wish, there: int) -> None:
    gpu, copies = wish.resources.gpu, wish.instances(1)
    if not there:
        raise invalid("resources.gpu", gpu, "0, because the local model servers have no GPU to give")
    if gpu > there:
        raise invalid("resources.gpu", gpu, f"at most {there}, the GPUs that the local model servers have")
    if gpu > copies:
        raise invalid(
            "resources.gpu", gpu, f"at most {copies}, the copies of a replica (serving.instances): each runs on one"
        )
    if wish.resources.gpu_sharing:
        return
    scaling = wish.autoscaling
    for field, replicas in (
        ("resources.replicas", wish.resources.replicas),
        ("autoscaling.max_replicas", scaling.max_replicas if scaling is not None and acts(scaling) else 0),
    ):
        if replicas * gpu > there:
            raise invalid(
                field,
                replicas,
                f"at most {there // gpu} with resources.gpu {gpu}, because the local model servers have {there} GPUs; "
                "or have replicas share them by resources.gpu_sharing time-slicing",
            )
