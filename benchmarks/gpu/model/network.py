# mypy: ignore-errors
# (PyTorch is installed in the models' environment alone, where mypy does not run)
"""The network: a transformer encoder of BERT's base size over 128 token ids, with 16 classes read off its first token.

Weights are random from a fixed seed: what it says does not matter here, only what it costs and that batches say the same.
"""

import torch
from torch import nn

SEED = 20260301
VOCABULARY, LENGTH, CLASSES, HEAD = 30_522, 128, 16, 64


class Encoder(nn.Module):
    """Token ids [n, 128] to scores FP32 [n, 16]."""

    def __init__(self, layers: int, hidden: int) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, hidden)
        self.places = nn.Parameter(torch.empty(LENGTH, hidden))
        self.norm = nn.LayerNorm(hidden)
        layer = nn.TransformerEncoderLayer(hidden, hidden // HEAD, 4 * hidden, 0.0, "gelu", batch_first=True)
        self.body = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(hidden, CLASSES)

    def forward(self, ids):
        """Scores of each row."""
        return self.head(self.body(self.norm(self.words(ids) + self.places))[:, 0]).float()


def build(layers: int, hidden: int) -> Encoder:
    """The network in single precision on the CPU. The same sizes give the same weights in every process."""
    torch.manual_seed(SEED)
    network = Encoder(layers, hidden)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=hidden**-0.5)
    return network.eval().requires_grad_(False)


def device() -> torch.device:
    """The GPU; the CPU only where there is none, to try things out."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def served(layers: int, hidden: int) -> Encoder:
    """The network as it is served: in half precision on the GPU, in single precision on a CPU."""
    network = build(layers, hidden).to(device())
    return network.half() if device().type == "cuda" else network
