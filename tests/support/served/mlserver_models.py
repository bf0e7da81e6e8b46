"""The models of the tests for MLServer."""

import asyncio
import fcntl
import os
from pathlib import Path

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

_FOLDER = Path(os.environ["SERVED_FOLDER"])


def _pass() -> None:
    """Returns once nobody holds what comes."""
    with (_FOLDER / "hold").open("rb") as hold:
        fcntl.flock(hold, fcntl.LOCK_SH)


class M(MLModel):
    """Gives `y` back as it got `x`."""

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One batch."""
        with (_FOLDER / "taken").open("ab") as count:
            count.write(b".")
        await asyncio.to_thread(_pass)
        x = self.decode(payload.inputs[0], default_codec=NumpyCodec)
        if (x == -13).any():
            raise InferenceError("-13 is not welcome here")
        output = ResponseOutput(name="y", datatype="INT64", shape=list(x.shape), data=x.ravel().tolist())
        return InferenceResponse(model_name=self.name, outputs=[output])


class Mix(MLModel):
    """Several inputs, several outputs."""

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One batch."""
        inputs = {one.name: one for one in payload.inputs}
        numbers = self.decode(inputs["numbers"], default_codec=NumpyCodec)
        words = self.decode(inputs["word"], default_codec=StringCodec)
        outputs = [
            ResponseOutput(
                name="total", datatype="FP32", shape=[len(numbers)], data=numbers.sum(axis=1, dtype=np.float32).tolist()
            ),
            ResponseOutput(
                name="loud", datatype="BYTES", shape=[len(words)], data=[word.upper().encode() for word in words]
            ),
            NumpyCodec.encode_output("positive", numbers > 0),
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)


class Pixels(MLModel):
    """The brightest of ten stripes of an image."""

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One batch."""
        images = self.decode(payload.inputs[0], default_codec=NumpyCodec)
        stripes = images[:, :60].reshape(-1, 10, 6).sum(axis=2)
        shares = (stripes / np.maximum(stripes.sum(axis=1, keepdims=True), 1)).astype(np.float32)
        labels = shares.argmax(axis=1)
        outputs = [
            ResponseOutput(name="label", datatype="INT64", shape=list(labels.shape), data=labels.tolist()),
            NumpyCodec.encode_output("probabilities", shares),
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)
