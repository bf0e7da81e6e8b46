"""Tokens by which the batch service calls the gateway in the name of a team, from the registry."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

import grpc
from infermesh.registry.v1 import team_service_pb2, team_service_pb2_grpc

from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.grpc.identity import PLATFORM_ADMIN, Identity

_DEADLINE_S = 5.0
_TOKENS_MAX = 1000
_RENEW_BEFORE_S = 120.0
"""A token is replaced so long before it ends, so that no request in flight outlives it."""


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    renew_at_s: float
    """On the clock's monotonic scale."""


class RegistryTokens:
    """Bearer tokens for predictions with one model, kept as long as they are good."""

    def __init__(self, channel: grpc.aio.Channel, *, clock: Clock) -> None:
        self._teams = team_service_pb2_grpc.TeamServiceStub(channel)
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str, str], _Token] = OrderedDict()
        self._asking = asyncio.Lock()

    async def bearer(self, caller: Identity, model: str) -> str:
        """A token to predict with `model` in the caller's name. Raises DEPENDENCY_UNAVAILABLE, which passes."""
        key = (caller.team, caller.user, model)
        async with self._asking:
            kept = self._kept.get(key)
            if kept is None or kept.renew_at_s <= self._clock.monotonic():
                kept = await self._ask(caller, model)
                self._kept[key] = kept
            self._kept.move_to_end(key)
            while len(self._kept) > _TOKENS_MAX:
                self._kept.popitem(last=False)
        return kept.text

    def forget(self, caller: Identity, model: str) -> None:
        """The gateway does not take it any more."""
        self._kept.pop((caller.team, caller.user, model), None)

    async def _ask(self, caller: Identity, model: str) -> _Token:
        request = team_service_pb2.CreateServiceTokenRequest(
            purpose=f"batch predictions with {model}",
            team=caller.team,
            user=caller.user,
            role="viewer" if caller.team else PLATFORM_ADMIN,
            scopes=["predict"],
            models=[model],
        )
        try:
            made = await self._teams.CreateServiceToken(request, timeout=_DEADLINE_S)
        except MeshError as error:
            if error.reason is Reason.TEAM_NOT_FOUND:
                raise
            raise MeshError(
                Reason.DEPENDENCY_UNAVAILABLE,
                "the registry gives no token to predict with; see whether it runs",
                retry_after_s=1.0,
            ) from error
        left_s = made.expires_at.ToNanoseconds() / 1e9 - self._clock.now().timestamp()
        return _Token(made.token, self._clock.monotonic() + max(0.0, left_s - _RENEW_BEFORE_S))
