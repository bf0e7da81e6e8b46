"""What logging policies ask for, through the core and the copier: hashes, outputs, and what is redacted in them."""

import asyncio
import json
from dataclasses import replace

import pytest

from services.batcher.domain.log_detail import Detail, InputHashes
from services.batcher.domain.recording import Recording, Recordings
from services.batcher.domain.serving import ShadowTarget
from services.common.errors import MeshError, Reason
from services.common.sampling import threshold_of
from tests.unit.batcher.test_shadow_copier import Mesh, running, says

pytestmark = [pytest.mark.looptime, pytest.mark.asyncio]


async def test_what_the_logging_policies_ask_for_is_noted_and_what_they_redact_leaves_nowhere() -> None:
    async with running(Mesh(ShadowTarget("v2.0.0", 100))) as mesh:
        mesh.versions.answers["v2.0.0"] = says(2)
        first = Recording(threshold_of(1.0), input_hash=True, output=True, redacted=frozenset({"probabilities"}))
        mesh.catalog.record(Recordings({("digits", ""): first, ("digits", "v2.0.0"): None}))
        await mesh.predict("a")
        await asyncio.sleep(1)
        [(call, detail)] = mesh.log.calls
        assert detail is not None
        assert call.request is not None
        assert detail.input_hash == InputHashes().of(call.request)
        assert json.loads(detail.output) == {"label": [1], "probabilities": "[redacted]"}
        assert [copy.detail for copy in mesh.log.copies] == [None]
        [sums] = mesh.sums().values()
        [example] = sums.examples
        assert json.loads(example.primary_output)["probabilities"] == "[redacted]"
        assert json.loads(example.shadow_output)["probabilities"] != "[redacted]", "its version has a policy of its own"

        mesh.catalog.record(Recordings({("digits", ""): replace(first, threshold=0.0, input_hash=False)}))
        await mesh.predict("b")
        mesh.catalog.record(Recordings({}))
        await mesh.predict("c")
        assert [detail for _, detail in mesh.log.calls[1:]] == [None, None], "what is not sampled costs nothing more"


async def test_a_failed_request_has_the_hash_of_what_was_asked_whatever_the_share() -> None:
    async with running(Mesh()) as mesh:
        mesh.catalog.record(Recordings({("digits", ""): Recording(0.0, input_hash=True, output=True)}))
        mesh.versions.answers["v1.0.0"] = MeshError(Reason.MODEL_FAILED, "broken")
        failed = await mesh.predict()
        [(_, detail)] = mesh.log.calls
        assert failed.request is not None
        assert detail == Detail(None, InputHashes().of(failed.request), "")
        await mesh.predict(asked="v9.0.0")
        assert mesh.log.calls[-1][1] is None, "it was not read"
