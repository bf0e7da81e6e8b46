"""A prediction over the Open Inference Protocol, with NVIDIA's own `tritonclient` as it comes.

python -m examples.clients.open_inference 127.0.0.1:8080

The mesh's key, where it asks for one, is in INFERMESH_API_KEY.
"""

import os
import sys

import numpy as np
import tritonclient.grpc as triton

from examples.clients.samples import digit, drawn

_TIMEOUT_S = 10.0


def main() -> None:
    """Asks which digit a picture shows."""
    gateway = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8080"
    pixels, truth = digit()
    key = {"authorization": f"Bearer {os.environ.get('INFERMESH_API_KEY', '')}"}
    with triton.InferenceServerClient(gateway) as client:
        image = triton.InferInput("X", [1, 64], "FP32")
        image.set_data_from_numpy(np.array([pixels], dtype=np.float32))
        answer = client.infer("digits", [image], client_timeout=_TIMEOUT_S, headers=key)
        label, probabilities = answer.as_numpy("label"), answer.as_numpy("probabilities")
        print(drawn(pixels))
        print(
            f"digits {answer.get_response().model_version} says {label[0]} ({probabilities.max():.1%}); it is a {truth}"
        )


if __name__ == "__main__":
    main()
