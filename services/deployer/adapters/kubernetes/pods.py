"""Pods with Triton, as servers that have loaded their version themselves."""

from services.deployer.adapters.external import ExternalModelServer
from services.deployer.adapters.external_oip import OipRest
from services.deployer.adapters.external_wire import Model, Target
from services.deployer.domain.catalog import Place


def open_pod(place: Place, *, name: str) -> ExternalModelServer:
    """A `Pods`. What its model states is not compared: its package is of the very version, by its digest."""
    return ExternalModelServer(place, OipRest(Target(place.http_address), Model(name)), name=name, schema=None)
