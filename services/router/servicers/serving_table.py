"""ServingTableService, which batchers watch."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from infermesh.router.v1 import serving_table_pb2, serving_table_pb2_grpc

from services.common.errors import invalid
from services.router.convert import step_to_proto
from services.router.engines.batchers import Batchers, Session

_Context = grpc.aio.ServicerContext[Any, Any]
_Requests = AsyncIterator[serving_table_pb2.WatchServingTableRequest]


class ServingTableServicer(serving_table_pb2_grpc.ServingTableServiceServicer):
    """One stream a batcher: steps out, acknowledgements in."""

    def __init__(self, batchers: Batchers) -> None:
        self._batchers = batchers

    async def WatchServingTable(
        self, request_iterator: _Requests, _context: _Context
    ) -> AsyncIterator[serving_table_pb2.WatchServingTableResponse]:
        """Ends when the batcher does, when it opens another stream, or when the router stops."""
        requests = aiter(request_iterator)
        first = await anext(requests, None)
        if first is None:
            raise invalid("batcher_id", "", "a first request that says who watches")
        session = self._batchers.connect(first.batcher_id, first.address)
        answers = asyncio.create_task(self._receive(session, requests), name=f"router:answers of {first.batcher_id}")
        try:
            async for step in self._batchers.steps(session):
                yield step_to_proto(step)
            if answers.done():
                answers.result()
        finally:
            self._batchers.disconnect(session)
            answers.cancel()
            await asyncio.gather(answers, return_exceptions=True)

    async def _receive(self, session: Session, requests: _Requests) -> None:
        try:
            async for request in requests:
                self._batchers.answer(
                    session,
                    acknowledged_revision=request.acknowledged_revision,
                    error_message=request.error_message,
                )
        finally:
            self._batchers.end(session)
