"""What is kept out of the logs, and what is not."""

import asyncio
import logging

import pytest

from services.common.telemetry.logging import no_cut_streams


@pytest.mark.parametrize(
    ("logger", "error", "kept"),
    [
        ("grpc._cython.cygrpc", asyncio.CancelledError(), False),
        ("grpc._cython.cygrpc", ValueError("odd"), True),
        ("services.deployer.engines.reconciler", asyncio.CancelledError(), True),
        ("grpc._cython.cygrpc", None, True),
    ],
)
def test_only_streams_that_a_stop_cut_are_silent(logger: str, error: BaseException | None, kept: bool) -> None:
    exc_info = (type(error), error, None) if error is not None else None
    record = logging.LogRecord(logger, logging.ERROR, __file__, 1, "said", (), exc_info)
    assert no_cut_streams(record) is kept
