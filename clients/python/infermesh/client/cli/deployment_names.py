"""Deployments as people name them: by their name, or by the version that they are of."""

import re

import grpc
from infermesh.client.cli.session import Session
from infermesh.client.errors import InfermeshError


def deployment_name(session: Session, model: str, given: str) -> str:
    """The deployment's name; a version, which no deployment can be called after, is looked up.

    Raises InfermeshError where that version is not deployed.
    """
    if re.fullmatch(r"v?\d+\.\d+\.\d+\S*", given) is None:
        return given
    version = given if given.startswith("v") else f"v{given}"
    for deployment in session.client.deployments.list(model=model):
        if deployment.version == version:
            return deployment.deployment_name
    raise InfermeshError(
        f"version {version} of {model} is not deployed",
        code=grpc.StatusCode.NOT_FOUND,
        reason="DEPLOYMENT_NOT_FOUND",
    )
