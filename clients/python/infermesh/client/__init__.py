"""The Python client of infermesh: one object, a namespace for each thing that the mesh does.

    from infermesh.client import Client

    with Client("127.0.0.1:8080") as mesh:
        answer = mesh.predict("digits", [{"X": pixels}])
        print(answer.model_version, answer.predictions[0].label)

Every call has a deadline, every failure is an `InfermeshError` that says what to do, and what the mesh sends comes back
as its own protobuf messages (`infermesh.<service>.v1`), so nothing of the contract is lost on the way and every field
has the name that the REST API prints. Only predictions, where speed of reading matters more, are small frozen
dataclasses.
"""

from infermesh.client.client import Client
from infermesh.client.errors import GATEWAY_UNREACHABLE, InfermeshError, Violation

__all__ = ["GATEWAY_UNREACHABLE", "Client", "InfermeshError", "Violation"]
