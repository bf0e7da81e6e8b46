"""PredictionLogService: the batchers' log."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from infermesh.monitor.v1 import prediction_log_pb2, prediction_log_pb2_grpc

from services.common.errors import invalid
from services.common.grpc.interceptors import Context
from services.monitor.convert.log import chunk_from_proto
from services.monitor.domain.records import Chunk
from services.monitor.engines.recorder import Recorder, Session

Requests = AsyncIterator[prediction_log_pb2.RecordPredictionsRequest]


class PredictionLogServicer(prediction_log_pb2_grpc.PredictionLogServiceServicer):
    """Hands chunks to the recorder and its acknowledgements back."""

    def __init__(self, recorder: Recorder, *, sample_rows_per_s: float = 0.0) -> None:
        """Batchers are asked for so many rows of each version a second."""
        self._recorder = recorder
        self._sample_rows_per_s = sample_rows_per_s

    async def RecordPredictions(
        self, request_iterator: Requests, _context: Context
    ) -> AsyncIterator[prediction_log_pb2.RecordPredictionsResponse]:
        """Takes chunks and acknowledges them at the same time: neither waits for the other."""
        first = await anext(aiter(request_iterator), None)
        if first is None:
            return
        chunk = chunk_from_proto(first)
        session = await self._recorder.open(chunk.stream)
        taking = asyncio.create_task(_take(session, chunk, request_iterator), name=f"log of {chunk.stream.batcher_id}")
        try:
            async with contextlib.aclosing(session.acknowledgements()) as acknowledgements:
                async for sequence in acknowledgements:
                    yield prediction_log_pb2.RecordPredictionsResponse(
                        acknowledged_sequence=sequence, sample_rows_per_second=self._sample_rows_per_s
                    )
            await taking
        finally:
            taking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(taking, return_exceptions=True)
            session.close()


async def _take(session: Session, first: Chunk, requests: Requests) -> None:
    """Takes every chunk until the batcher ends its half of the stream, or one is refused; then asks for the rest to be
    stored, which ends the acknowledgements too.
    """
    try:
        await session.take(first)
        async for message in requests:
            chunk = chunk_from_proto(message)
            if chunk.stream != first.stream:
                raise invalid("batcher_id and epoch", chunk.stream, f"{first.stream}, as the stream began")
            await session.take(chunk)
    finally:
        await session.end()
