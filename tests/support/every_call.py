"""A sample request of every method of every contract, over gRPC and over each of its REST routes.

A sample names the models, teams and other things that `Names` holds and is otherwise as small as its contract allows:
it shows who is let through and who is not, not what a call does. Walks over it send the same sample as many callers,
and with names that exist and names that do not, and compare the answers.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast
from urllib.parse import quote, urlencode

import orjson
from google.api import annotations_pb2, http_pb2, httpbody_pb2
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from services.common.access.policy import rule_of
from services.common.access.rule import Access
from tests.support.contracts import every_method

_PARAMETER = re.compile(r"\{([a-z_.]+)(?:=[^}]*)?\}")
_HTTP_BODY = httpbody_pb2.HttpBody.DESCRIPTOR.full_name


@dataclass(frozen=True, slots=True)
class Names:
    """What samples name. All are well-formed; whether there is such a thing is up to the test."""

    model: str
    team: str
    version: str = "v1.0.0"
    deployment: str = "main"
    job_id: str = "batch_job_0"
    schedule_id: str = "batch_schedule_0"
    key_id: str = "key-0"
    alert_id: str = "00000000-0000-0000-0000-000000000000"
    request_id: str = "request-0"
    digest: str = "0" * 64
    upload_id: str = "upload-0"
    user: str = "nobody"


@dataclass(frozen=True, slots=True)
class RestCall:
    """One request over REST."""

    verb: str
    path: str
    """With its query."""
    body: bytes | None
    content_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Call:
    """One method."""

    method: str
    descriptor: MethodDescriptor

    @property
    def service(self) -> str:
        """The full name of its service."""
        return self.method.split("/")[1]

    @property
    def streams_in(self) -> bool:
        """Whether the caller sends a stream."""
        return bool(self.descriptor.client_streaming)

    @property
    def streams_out(self) -> bool:
        """Whether the answer is a stream."""
        return bool(self.descriptor.server_streaming)

    @property
    def endless(self) -> bool:
        """Whether the answer is a stream that ends only when its caller or the service does."""
        return self.streams_out and str(self.descriptor.name).startswith("Watch")

    @property
    def by_name(self) -> bool:
        """Whether it names a model that must exist, or a team."""
        rule = rule_of(self.method)
        return bool((rule.model and rule.access is not Access.CREATE) or rule.team)

    def request(self, names: Names) -> Message:
        """The sample."""
        request = GetMessageClass(self.descriptor.input_type)()
        _fill(request, names, depth=0)
        rule = rule_of(self.method)
        for path, value in ((rule.model, names.model), (rule.team, names.team)):
            if path:
                _put(request, path, value)
        more = _MORE.get(self.descriptor.full_name.rpartition(".")[2])
        if more is not None:
            more(request, names)
        return request

    def rest(self, names: Names) -> tuple[RestCall, ...]:
        """The sample over each of the method's routes; none where it has none."""
        if not self.descriptor.GetOptions().HasExtension(annotations_pb2.http):
            return ()
        http = cast("http_pb2.HttpRule", self.descriptor.GetOptions().Extensions[annotations_pb2.http])
        request = self.request(names)
        return tuple(_rest(request, rule) for rule in (http, *http.additional_bindings))


def every_call(*services: str) -> tuple[Call, ...]:
    """The methods of these services, or of all, by name."""
    return tuple(
        call
        for method, descriptor in sorted(every_method().items())
        if (call := Call(method, descriptor)).service in services or not services
    )


def _fields(names: Names) -> Mapping[str, str]:
    return {
        "model_name": names.model,
        "team_name": names.team,
        "version": names.version,
        "model_version": names.version,
        "base_version": names.version,
        "to_version": names.version,
        "deployment_name": names.deployment,
        "job_id": names.job_id,
        "key_id": names.key_id,
        "alert_id": names.alert_id,
        "digest": names.digest,
        "upload_id": names.upload_id,
        "user": names.user,
        "name": "sample",
        "alias": "champion",
        "rule_name": "split",
        "schedule_id": names.schedule_id,
        "export_id": "export-0",
        "baseline_id": "baseline-0",
        "report_id": "report-0",
        "silence_id": "silence-0",
        "stage": "active",
        "role": "viewer",
        "team": "sample-team",
        "input_uri": "file:///nowhere/in.csv",
        "output_uri": "file:///nowhere/out.csv",
        "artifact_uri": "file:///nowhere/model.onnx",
        "uri": "file:///nowhere",
        "source": "mlflow",
        "framework": "onnx",
        "filename": "model.onnx",
        "watcher_id": "walk",
        "batcher_id": "walk",
        "purpose": "walk",
    }


_PARTS = frozenset(
    [
        "model",
        "model_version",
        "deployment",
        "schedule",
        "job",
        "team",
        "outcome",
        "alert_rule",
        "silence",
        "baseline",
        "logging_policy",
        "notification_channel",
        "price_table",
    ]
)
"""Fields of requests that hold the resource itself, whose names are filled in too."""


def _fill(message: Message, names: Names, *, depth: int) -> None:
    known = _fields(names)
    for field in message.DESCRIPTOR.fields:
        if field.is_repeated:
            continue
        if field.type == FieldDescriptor.TYPE_STRING and field.name in known:
            setattr(message, field.name, known[field.name])
        elif field.type == FieldDescriptor.TYPE_MESSAGE and field.name in _PARTS and depth < 2:
            _fill(getattr(message, field.name), names, depth=depth + 1)


def _put(message: Message, path: str, value: str) -> None:
    *parents, last = path.split(".")
    for name in parents:
        message = getattr(message, name)
    setattr(message, last, value)


def _outcome(request: Message, names: Names) -> None:
    request.outcome.request_id = names.request_id  # type: ignore[attr-defined]  # of ReportOutcomeRequest
    request.outcome.metrics["ctr"] = 1.0  # type: ignore[attr-defined]


def _outcomes(request: Message, names: Names) -> None:
    sent = request.outcomes.add(request_id=names.request_id)  # type: ignore[attr-defined]
    sent.metrics["ctr"] = 1.0


def _request_id(request: Message, names: Names) -> None:
    request.request_id = names.request_id  # type: ignore[attr-defined]


def _job_id(request: Message, names: Names) -> None:
    request.job.job_id = names.job_id  # type: ignore[attr-defined]


def _no_wait(request: Message, _names: Names) -> None:
    request.timeout_s = 0.05  # type: ignore[attr-defined]


def _replicas(request: Message, _names: Names) -> None:
    request.replicas = 1  # type: ignore[attr-defined]


_MORE: Mapping[str, Callable[[Message, Names], None]] = {
    "ReportOutcome": _outcome,
    "ReportOutcomes": _outcomes,
    "ListOutcomes": _request_id,
    "UpdateBatchJob": _job_id,
    "ScaleDeployment": _replicas,
    "WaitDeployment": _no_wait,
}
"""What a sample says beside names."""


def _rest(request: Message, rule: http_pb2.HttpRule) -> RestCall:
    verb = str(rule.WhichOneof("pattern"))
    template = str(getattr(rule, verb))
    left = type(request).FromString(request.SerializeToString())
    for path in _PARAMETER.findall(template):
        _put(left, path, "")

    def value(match: re.Match[str]) -> str:
        found: object = request
        for name in match[1].split("."):
            found = getattr(found, name)
        return quote(str(found), safe="")

    path = _PARAMETER.sub(value, template)
    if rule.body and rule.body != "*":
        field = left.DESCRIPTOR.fields_by_name[rule.body]
        if field.message_type is not None and field.message_type.full_name == _HTTP_BODY:
            left.ClearField(rule.body)
            return RestCall(verb.upper(), _with_query(path, left), b"{}", "application/octet-stream")
        body = _json(getattr(left, rule.body))
        left.ClearField(rule.body)
        return RestCall(verb.upper(), _with_query(path, left), body)
    if rule.body:
        return RestCall(verb.upper(), path, _json(left))
    return RestCall(verb.upper(), _with_query(path, left), None)


def _json(message: Message) -> bytes:
    return orjson.dumps(json_format.MessageToDict(message, preserving_proto_field_name=True))


def _with_query(path: str, left: Message) -> str:
    pairs = list(_pairs(json_format.MessageToDict(left, preserving_proto_field_name=True), ""))
    return f"{path}?{urlencode(pairs)}" if pairs else path


def _pairs(values: Mapping[str, object], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _pairs(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield from ((f"{prefix}{name}", str(item)) for item in value)
        else:
            yield f"{prefix}{name}", str(value).lower() if isinstance(value, bool) else str(value)
