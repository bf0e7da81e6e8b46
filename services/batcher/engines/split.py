"""A request larger than a batch: its parts go their own ways and come back together."""

import asyncio

from services.batcher.domain.failure import BackendFailure, FailureKind
from services.batcher.domain.refusals import failed
from services.batcher.domain.request import InferRequest, InferResult
from services.batcher.domain.rows import RowsError, join_results


class SplitCall:
    """The answer in the making. It is complete with its last part and fails with its first failure."""

    def __init__(self, request: InferRequest, parts: int, future: asyncio.Future[InferResult]) -> None:
        self._request = request
        self._results: list[InferResult | None] = [None] * parts
        self._left = parts
        self.future = future

    def part(self, index: int) -> "Part":
        """Where the answer of part `index` goes."""
        return Part(self, index)

    def deliver(self, index: int, result: InferResult) -> None:
        """One part's rows."""
        self._results[index] = result
        self._left -= 1
        if self._left:
            return
        try:
            joined = join_results([part for part in self._results if part is not None])
        except RowsError as error:
            served = self._request.served
            why = BackendFailure(FailureKind.PROTOCOL, str(error))
            self.future.set_exception(failed(served.model_name, served.version, why))
        else:
            joined.batch = result.batch
            joined.compute_s = sum([part.compute_s for part in self._results if part is not None])
            self.future.set_result(joined)


class Part:
    """A `Caller`: one part of a split request."""

    __slots__ = ("_call", "_index")

    def __init__(self, call: SplitCall, index: int) -> None:
        self._call = call
        self._index = index

    def done(self) -> bool:
        """Whether nobody wants this part: the whole was answered, failed or given up."""
        return self._call.future.done()

    def set_result(self, result: InferResult, /) -> None:
        """Its rows."""
        self._call.deliver(self._index, result)

    def set_exception(self, exception: Exception, /) -> None:
        """The whole fails."""
        self._call.future.set_exception(exception)
