"""A caller who sends bytes to any method of the gateway, and what may come back."""

import time
from collections.abc import Iterator
from typing import Any, cast

import grpc
from google.protobuf import json_format
from google.rpc import status_pb2

from tests.support.every_call import Call
from tests.support.fuzz_checks import CALL_TIMEOUT_S, faults_of_details, given_away

STREAM_S = 0.5
"""How long an endless answer is listened to."""
_NEVER = (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS)
_DOCUMENTED = ("MODEL_FAILED", "ARTIFACT_CORRUPT")
"""Reasons that the contracts name: the model failed, or bytes are not those that their sender promised."""
_ANSWERS_MAX = 4


class RawCaller:
    """Calls with bytes as they are."""

    def __init__(self, gateway: str, key: str) -> None:
        self._channel = grpc.insecure_channel(gateway, options=[("grpc.max_receive_message_length", -1)])
        self._metadata = (("authorization", f"Bearer {key}"),)
        self.codes: dict[str, int] = {}
        """How often each status came back."""

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def faults(self, call: Call, wire: bytes) -> Iterator[str]:
        """What is wrong with how a request is answered."""
        timeout_s = STREAM_S if call.endless else CALL_TIMEOUT_S
        began_s = time.monotonic()
        try:
            self._answers(call, wire, timeout_s)
        except grpc.RpcError as error:
            failed = cast("grpc.Call", error)
            self.codes[failed.code().name] = self.codes.get(failed.code().name, 0) + 1
            for fault in _faults_of(failed, wire, endless=call.endless):
                yield f"{call.method} {wire[:200]!r}: {failed.code().name} {failed.details()!r} {fault}"
        else:
            self.codes["OK"] = self.codes.get("OK", 0) + 1
        took_s = time.monotonic() - began_s
        if took_s > CALL_TIMEOUT_S:
            yield f"{call.method} {wire[:200]!r}: took {took_s:.1f} s"

    def _answers(self, call: Call, wire: bytes, timeout_s: float) -> None:
        how: dict[str, Any] = {"timeout": timeout_s, "metadata": self._metadata}
        # Of bytes, whatever the stubs of a channel without stubs say.
        channel: Any = self._channel
        if call.streams_in and call.streams_out:
            answers = channel.stream_stream(call.method)(iter([wire]), **how)
        elif call.streams_out:
            answers = channel.unary_stream(call.method)(wire, **how)
        elif call.streams_in:
            channel.stream_unary(call.method)(iter([wire]), **how)
            return
        else:
            channel.unary_unary(call.method)(wire, **how)
            return
        for number, _ in enumerate(answers):
            if number >= _ANSWERS_MAX:
                answers.cancel()
                return


def _faults_of(failed: grpc.Call, wire: bytes, *, endless: bool) -> Iterator[str]:
    code, message = failed.code(), failed.details() or ""
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and endless:
        return
    trailers = dict(failed.trailing_metadata() or ())
    packed = trailers.get("grpc-status-details-bin")
    details: list[dict[str, Any]] = []
    if isinstance(packed, bytes):
        status = json_format.MessageToDict(status_pb2.Status.FromString(packed), preserving_proto_field_name=True)
        details = status.get("details", [])
    reason = next((one["reason"] for one in details if "reason" in one), "")
    if code in _NEVER and reason not in _DOCUMENTED:
        yield f"is a failure of the server ({reason})"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and reason != "DEADLINE_TOO_SHORT":
        yield "hangs"
    if code is grpc.StatusCode.UNIMPLEMENTED and reason and reason != "NOT_IMPLEMENTED":
        yield f"is UNIMPLEMENTED because of {reason}"
    yield from faults_of_details(details, reason_wanted=code is not grpc.StatusCode.UNIMPLEMENTED)
    inside = given_away(message, sent=wire.decode(errors="replace"))
    if inside:
        yield f"gives away {inside}"
