"""The model "mix" for TorchServe: several inputs, several outputs, computed by PyTorch."""

import torch
from ts.torch_handler.base_handler import BaseHandler


class Mix(BaseHandler):
    """Gets rows and gives rows, as TorchServe's `json` envelope has it."""

    def initialize(self, context):
        """There is nothing to load."""
        self.initialized = True

    def handle(self, data, context):
        """One batch."""
        numbers = torch.tensor([row["numbers"] for row in data], dtype=torch.float32)
        totals, positive = numbers.sum(dim=1).tolist(), (numbers > 0).tolist()
        words = [row["word"].upper() for row in data]
        return [
            {"total": total, "loud": loud, "positive": above}
            for total, loud, above in zip(totals, words, positive, strict=True)
        ]
