"""What the gateway itself answers when a request does not get through: the same shape as every other error of the mesh.

REST gets `{"code", "message", "details"}`, the Open Inference Protocol's REST `{"error", "reason"}` as its clients read
it; gRPC gets a status with a sentence. Envoy's own words stay in the sentence: they say what it could not do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from google.protobuf import struct_pb2
from meshxds.envoy.config.accesslog.v3 import accesslog_pb2
from meshxds.envoy.config.core.v3 import base_pb2, substitution_format_string_pb2
from meshxds.envoy.config.route.v3 import route_components_pb2
from meshxds.envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from meshxds.envoy.type.matcher.v3 import string_pb2

from services.common.errors import CATALOGUE, DOMAIN, Code, Reason
from services.router.adapters.envoy import names
from services.router.adapters.envoy.messages import overwritten
from services.router.adapters.envoy.refusals import REFUSALS, Refusal

_ENVOY_SAYS = "%LOCAL_REPLY_BODY%"
_PATH = f"%REQ({names.HEADER_ORIGINAL_PATH.upper()}?:PATH)%"

_Filter = accesslog_pb2.AccessLogFilter
_Mapper = http_connection_manager_pb2.ResponseMapper


@dataclass(frozen=True, slots=True)
class _Reply:
    """How one status of Envoy's is said."""

    status: int
    """What Envoy answers with."""
    code: Code
    message: str
    reason: Reason | None = None
    said_as: int = 0
    """The HTTP status that callers get instead; 0: the same."""
    limit: str = ""
    """The limit that was reached; empty: none was."""


def _because(status: int, reason: Reason, message: str, *, said_as: int = 0) -> _Reply:
    return _Reply(status, CATALOGUE[reason], message, reason, said_as)


_TIME_UP = "the time was up before there was an answer; allow more time or ask for less"
_REPLIES = (
    _because(400, Reason.MALFORMED_BODY, f"the request cannot be read: {_ENVOY_SAYS}"),
    _Reply(
        404,
        Code.NOT_FOUND,
        f"%REQ(:METHOD)% {_PATH}: {_ENVOY_SAYS}; the REST API begins with /v1, the Open Inference Protocol with /v2",
    ),
    _because(408, Reason.DEADLINE_TOO_SHORT, _TIME_UP, said_as=504),
    _because(
        413,
        Reason.MESSAGE_TOO_LARGE,
        f"the body is larger than the limit of {names.BODY_MAX_TEXT}; send fewer instances at once, or use a batch job",
    ),
    _because(
        429, Reason.QUOTA_EXCEEDED, f"the gateway takes no more at the moment ({_ENVOY_SAYS}); try again in a second"
    ),
    _Reply(431, Code.INVALID_ARGUMENT, f"the headers are too large: {_ENVOY_SAYS}"),
    _because(
        502, Reason.DEPENDENCY_UNAVAILABLE, f"the gateway got no answer that it could read: {_ENVOY_SAYS}", said_as=503
    ),
    _because(
        503,
        Reason.DEPENDENCY_UNAVAILABLE,
        f"the gateway does not reach the service that answers this: {_ENVOY_SAYS}; try again in a second",
    ),
    _because(504, Reason.DEADLINE_TOO_SHORT, _TIME_UP),
)
_RETRY_AFTER = ("retry-after", "1")
_RETRIED = (429, 502, 503)


def local_replies(*, authentication: bool = False) -> http_connection_manager_pb2.LocalReplyConfig:
    """The mappers: those who are not let in, where `authentication` is on; then gRPC, then REST by status."""
    return http_connection_manager_pb2.LocalReplyConfig(
        mappers=[
            *(_refused() if authentication else ()),
            *_to_grpc(),
            *(
                _to_rest(reply, _all(_is_inference(), _status_is(reply.status)), _inference(reply))
                for reply in _REPLIES
            ),
            *(_to_rest(reply, _status_is(reply.status), _json(reply)) for reply in _REPLIES),
        ]
    )


def _refused() -> Iterator[http_connection_manager_pb2.ResponseMapper]:
    """The mappers of refusals, cheap questions first: whoever floods the gateway asks them all."""
    for one in REFUSALS:
        yield _Mapper(
            filter=_all(_status_is(one.status), _is_grpc(), *one.holds()),
            body_format_override=_text(one.message),
            headers_to_add=[
                overwritten("grpc-status", str(int(CATALOGUE[one.reason]))),
                overwritten("grpc-status-details-bin", one.details),
                *([overwritten(*_RETRY_AFTER)] if one.said_as in _RETRIED else ()),
                *_challenge(one),
            ],
        )
    for shape, body in (((_is_inference(),), _inference), ((), _json)):
        for one in REFUSALS:
            reply = replace(_because(one.status, one.reason, one.message, said_as=one.said_as), limit=one.limit)
            mapper = _to_rest(reply, _all(_status_is(one.status), *shape, *one.holds()), body(reply))
            mapper.headers_to_add.extend(_challenge(one))
            yield mapper


def _challenge(refusal: Refusal) -> Sequence[base_pb2.HeaderValueOption]:
    """Over Envoy's own, which repeats host and path."""
    return [overwritten("www-authenticate", refusal.challenge)] if refusal.challenge else []


def _to_rest(
    reply: _Reply,
    holds: accesslog_pb2.AccessLogFilter,
    body: substitution_format_string_pb2.SubstitutionFormatString,
) -> http_connection_manager_pb2.ResponseMapper:
    mapper = _Mapper(filter=holds, body_format_override=body)
    if reply.said_as:
        mapper.status_code.value = reply.said_as
    if (reply.said_as or reply.status) in _RETRIED:
        mapper.headers_to_add.append(overwritten(*_RETRY_AFTER))
    return mapper


def _to_grpc() -> Sequence[http_connection_manager_pb2.ResponseMapper]:
    """Statuses of which Envoy makes another gRPC code than we do, then all others."""
    other = {reply.status: reply for reply in _REPLIES if reply.status in (408, 413, 504)}
    return [
        *(
            _Mapper(
                filter=_all(_is_grpc(), _status_is(status)),
                body_format_override=_text(reply.message),
                headers_to_add=[overwritten("grpc-status", str(int(reply.code)))],
            )
            for status, reply in other.items()
        ),
        _Mapper(filter=_is_grpc(), body_format_override=_text(_ENVOY_SAYS)),
    ]


def _json(reply: _Reply) -> substitution_format_string_pb2.SubstitutionFormatString:
    details: list[dict[str, object]] = []
    if reply.reason is not None:
        info: dict[str, object] = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": reply.reason.value,
            "domain": DOMAIN,
        }
        details.append({**info, "metadata": {"limit": reply.limit}} if reply.limit else info)
    body = struct_pb2.Struct()
    body.update({"code": int(reply.code), "message": reply.message, "details": details})  # type: ignore[dict-item]
    return substitution_format_string_pb2.SubstitutionFormatString(json_format=body)


def _inference(reply: _Reply) -> substitution_format_string_pb2.SubstitutionFormatString:
    body = struct_pb2.Struct()
    body.update({"error": reply.message})
    if reply.reason is not None:
        body.update({"reason": reply.reason.value})
    return substitution_format_string_pb2.SubstitutionFormatString(json_format=body)


def _text(message: str) -> substitution_format_string_pb2.SubstitutionFormatString:
    return substitution_format_string_pb2.SubstitutionFormatString(
        text_format_source=base_pb2.DataSource(inline_string=message)
    )


def _is_grpc() -> accesslog_pb2.AccessLogFilter:
    """The caller speaks gRPC: not the transcoder on behalf of a caller who speaks REST."""
    header = route_components_pb2.HeaderMatcher
    grpc = header(name="content-type", string_match=string_pb2.StringMatcher(prefix="application/grpc"))
    transcoded = header(name=names.HEADER_ORIGINAL_PATH, present_match=True, invert_match=True)
    return _all(*(_Filter(header_filter=accesslog_pb2.HeaderFilter(header=one)) for one in (grpc, transcoded)))


def _is_inference() -> accesslog_pb2.AccessLogFilter:
    """The caller speaks the REST form of the Open Inference Protocol."""
    path = route_components_pb2.HeaderMatcher(name=":path", string_match=string_pb2.StringMatcher(prefix="/v2/"))
    return _Filter(header_filter=accesslog_pb2.HeaderFilter(header=path))


def _status_is(status: int) -> accesslog_pb2.AccessLogFilter:
    comparison = accesslog_pb2.ComparisonFilter(
        op=accesslog_pb2.ComparisonFilter.Op.EQ,
        # Envoy wants a key by which an operator could change the number at run time; nobody does.
        value=base_pb2.RuntimeUInt32(default_value=status, runtime_key=f"infermesh.reply.{status}"),
    )
    return _Filter(status_code_filter=accesslog_pb2.StatusCodeFilter(comparison=comparison))


def _all(*filters: accesslog_pb2.AccessLogFilter) -> accesslog_pb2.AccessLogFilter:
    return _Filter(and_filter=accesslog_pb2.AndFilter(filters=filters)) if len(filters) > 1 else filters[0]
