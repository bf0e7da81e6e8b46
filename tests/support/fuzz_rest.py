"""Requests that nobody would write, generated out of the OpenAPI document by schemathesis, and what may come back."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import requests
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis.core.result import Err
from schemathesis.generation import GenerationMode

from tests.support.fuzz_checks import CALL_TIMEOUT_S, faults_of_details, given_away

STREAM_S = 1.0
"""How long an endless answer is listened to."""
ANSWER_MAX = 256 * 1024
SEED = 20260205
_DOCUMENTED = ((501, "NOT_IMPLEMENTED"), (500, "ARTIFACT_CORRUPT"))
"""Failures that the contracts name: what is not built yet, and bytes that are not those that their sender promised."""
_SHOWN = 600


@dataclass
class Fuzzer:
    """Sends generated requests to a gateway."""

    gateway: str
    """host:port."""
    key: str
    document: Mapping[str, Any]
    names: Mapping[str, str] = field(default_factory=dict)
    """Values for parameters in paths, which half of the requests have: without them most end at what is not there."""
    statuses: dict[int, int] = field(default_factory=dict)
    """How often each status came back."""

    def __post_init__(self) -> None:
        self._session = requests.Session()
        self._session.trust_env = False
        self._schema = schemathesis.openapi.from_dict(dict(self.document))

    def close(self) -> None:
        """Closes the connections."""
        self._session.close()

    def operations(self) -> Iterator[Any]:
        """Every operation of the document, with those of the Open Inference Protocol and health."""
        for result in self._schema.get_all_operations():
            assert not isinstance(result, Err), result.err()
            yield result.ok()

    def faults(self, operation: Any, *, examples: int, by_name: bool) -> list[str]:
        """Sends requests that fit the document and such that do not; what was wrong with the answers. `by_name`: with
        `names` in their paths."""
        found: list[str] = []
        wanted = {one["name"] for one in _parameters(operation) if one["in"] == "path"}
        known = {name: value for name, value in self.names.items() if name in wanted} if by_name else {}
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            # A part that cannot be wrong, of an operation without parameters and body, has nothing to negate.
            if mode is GenerationMode.NEGATIVE and not (_parameters(operation) or operation.body):
                continue
            strategy = operation.as_strategy(generation_mode=mode)

            @hypothesis.seed(SEED)
            @hypothesis.settings(
                max_examples=examples,
                phases=[Phase.generate],
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
                print_blob=False,
            )
            @hypothesis.given(case=strategy)
            def send(case: Any) -> None:
                case.path_parameters = {**(case.path_parameters or {}), **known}
                found.extend(self._faults_of(case))

            try:
                send()
            except hypothesis.errors.Unsatisfiable:
                continue
        return found

    def _faults_of(self, case: Any) -> Iterator[str]:
        try:
            wanted = case.as_transport_kwargs(base_url=f"http://{self.gateway}")
            wanted["headers"] = {**wanted.get("headers", {}), "Authorization": f"Bearer {self.key}"}
            wanted.pop("cookies", None)
            prepared = self._session.prepare_request(requests.Request(**wanted))
        except (ValueError, requests.RequestException):
            return  # what cannot be written as HTTP cannot be sent
        endless = case.operation.path.endswith(":watch")
        began_s = time.monotonic()
        what = f"{prepared.method} {prepared.url} {str(prepared.body)[:_SHOWN]}"
        try:
            with closing(
                self._session.send(prepared, stream=True, timeout=STREAM_S if endless else CALL_TIMEOUT_S)
            ) as got:
                body = b"" if endless and got.status_code == 200 else got.raw.read(ANSWER_MAX, decode_content=True)
        except requests.ReadTimeout:
            if not endless:
                yield f"{what}: no answer within {CALL_TIMEOUT_S:.0f} s"
            return
        except requests.ConnectionError as error:
            yield f"{what}: {error}"
            return
        took_s = time.monotonic() - began_s
        self.statuses[got.status_code] = self.statuses.get(got.status_code, 0) + 1
        if took_s > CALL_TIMEOUT_S:
            yield f"{what}: took {took_s:.1f} s"
        if got.status_code < 400:
            return
        text = body.decode(errors="replace")
        sent = f"{prepared.url} {prepared.body!r}"
        for fault in faults_of(got.status_code, text, case.operation.path, sent):
            yield f"{what}: {got.status_code} {fault}: {text[:_SHOWN]}"


def faults_of(status: int, text: str, path: str, sent: str) -> Iterator[str]:
    """What is wrong with a refusal."""
    try:
        body = json.loads(text)
    except ValueError:
        yield "is no JSON"
        return
    if path.startswith("/v2") and "error" in body:
        reason, message = body.get("reason", ""), body["error"]
    elif path.startswith("/v2") and set(body) in ({"ready"}, {"live"}):
        return
    else:
        if not {"code", "message", "details"} <= set(body) or not body["message"]:
            yield "has not the shape of an error"
            return
        message = body["message"]
        reason = next((one["reason"] for one in body["details"] if "reason" in one), "")
        yield from faults_of_details(body["details"], reason_wanted=status not in (404, 405))
    if status >= 500 and (status, reason) not in _DOCUMENTED:
        yield f"is a failure of the server ({reason})"
    inside = given_away(text, sent=sent)
    if inside:
        yield f"gives away {inside}"
    if not isinstance(message, str):
        yield "has no message"


def _parameters(operation: Any) -> list[dict[str, Any]]:
    return [dict(one.definition) for one in operation.iter_parameters()]
