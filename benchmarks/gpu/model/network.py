# mypy: ignore-errors
# (PyTorch is installed in the models' environment alone, where mypy does not run)
"""The network: a transformer encoder of BERT's base size over 128 token ids, 16 classes read off its first token.

Weights are random from a fixed seed: what it says does not matter, only what it costs and that batches say the same.
"""

import torch
from torch import nn

SEED = 20260301
_WARM_UP_RUNS = 3
_STEP = 16
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


def steps(rows_max: int) -> list[int]:
    """The sizes that are run, each batch filled up to the next: for a size that it has not seen PyTorch looks for
    kernels and loads them, which takes longer than the batch.
    """
    small = [size for size in (1, 2, 4, 8) if size < rows_max]
    return [*small, *range(_STEP, rows_max, _STEP), rows_max]


class Runner:
    """Runs batches. With `graphs`, on a GPU, each size is recorded once and then replayed: one call launches all
    kernels of a run, where launching them one by one took as long as an H200 needs for 32 rows.
    """

    def __init__(self, network: Encoder, rows_max: int, *, graphs: bool) -> None:
        self._network = network
        self._ids = torch.ones((rows_max, LENGTH), dtype=torch.int32, device=device())
        self._sizes = steps(rows_max)
        self._recorded = {}
        pool = None
        with torch.inference_mode():
            for size in reversed(self._sizes):  # the largest first: the others fit into its memory
                for _ in range(_WARM_UP_RUNS):
                    network(self._ids[:size])
                if graphs and device().type == "cuda":
                    graph = torch.cuda.CUDAGraph()
                    with torch.cuda.graph(graph, pool=pool):
                        scores = network(self._ids[:size])
                    pool = pool or graph.pool()
                    self._recorded[size] = (graph, scores)

    def __call__(self, ids):
        """Token ids INT32 [n, 128] to scores FP32 [n, 16], as arrays of numpy."""
        rows = len(ids)
        size = next(size for size in self._sizes if size >= rows)
        with torch.inference_mode():
            self._ids[:rows].copy_(torch.from_numpy(ids))
            graph, scores = self._recorded.get(size, (None, None))
            if graph is None:
                scores = self._network(self._ids[:size])
            else:
                graph.replay()
            return scores[:rows].cpu().numpy()
