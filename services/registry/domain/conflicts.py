"""What stands in the way of a registration, said so that its caller knows what to do."""

from collections.abc import Sequence

from services.common.errors import MeshError, Reason, invalid
from services.registry.domain.version import NewVersion, Version, differences


def same_or_refused(new: NewVersion, rival: Version) -> Version:
    """`rival` where it is the very version that `new` asks for.

    Raises REQUEST_ID_REUSED where the request id made another version, VERSION_EXISTS where the content differs.
    """
    if (rival.model_name, rival.version) != (new.model_name, new.version):
        if new.team and rival.team != new.team:
            # Another team's: what it registered is not for this caller to know.
            raise MeshError(
                Reason.REQUEST_ID_REUSED,
                f"request_id {new.request_id!r} stands for another wish; send a new one with every new wish",
            )
        raise MeshError(
            Reason.REQUEST_ID_REUSED,
            f"request_id {new.request_id!r} registered {rival.version} of model {rival.model_name!r}; "
            "send a new one with every new wish",
            metadata={"model_name": rival.model_name, "version": rival.version},
        )
    differing = differences(rival.content, new.content)
    if not differing:
        return rival
    raise MeshError(
        Reason.VERSION_EXISTS,
        f"{new.version} of model {new.model_name!r} is registered with another {_listed(differing)}; versions never "
        "change, register this one under a new number",
        metadata={"model_name": new.model_name, "version": new.version, "differs": ",".join(differing)},
    )


def other_framework(new: NewVersion, framework: str) -> MeshError:
    """Why a version cannot join a model of another framework."""
    return invalid(
        "framework",
        new.content.framework,
        f"{framework!r}, the framework of every version of model {new.model_name!r}; choose another model name",
    )


def other_team(new: NewVersion) -> MeshError:
    """Why a version cannot join a model that is another team's, without saying whose."""
    return MeshError(
        Reason.PERMISSION_DENIED,
        f"the model name {new.model_name!r} is taken; choose another name, or ask its owners to transfer the model",
        metadata={"model_name": new.model_name},
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
