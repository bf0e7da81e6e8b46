"""Trains PyTorch models on scikit-learn's digits: TorchScript, torch.export, and a model.py with its state dict."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import ROWS, SEED, artifact_folder, classified, rows_of, run, write_case
from safetensors.torch import save_file
from sklearn.datasets import load_digits

CODE = '''"""A small network for handwritten digits."""

import torch


class Model(torch.nn.Module):
    """Pixels in; the digit and the probability of each digit out."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))

    def forward(self, X: torch.Tensor):
        probabilities = torch.softmax(self.layers(X / 16), dim=1)
        return probabilities.argmax(dim=1), probabilities
'''
SCHEMA = {
    "inputs": [{"name": "X", "data_type": "DATA_TYPE_FP32", "shape": [64]}],
    "outputs": [
        {"name": "label", "data_type": "DATA_TYPE_INT64", "shape": []},
        {"name": "probabilities", "data_type": "DATA_TYPE_FP32", "shape": [10]},
    ],
}
"""The tensors of all but the exported program, which states them itself."""


def main(out: Path) -> None:
    """Writes the cases `torchscript`, `export`, `state_dict` and `safetensors`."""
    x, y = load_digits(return_X_y=True)
    x = x.astype(np.float32)
    folder = artifact_folder(out, "state_dict")
    (folder / "model.py").write_text(CODE)
    model = trained(folder, torch.from_numpy(x[:-ROWS]), torch.from_numpy(y[:-ROWS]))
    last = torch.from_numpy(x[-ROWS:])
    with torch.inference_mode():
        labels, probabilities = model(last)
    expected = classified(labels.tolist(), probabilities.tolist(), range(10))

    torch.save(model.state_dict(), folder / "state_dict.pt")
    write_case(folder, "pytorch", rows_of(x[-ROWS:]), expected, {"schema": SCHEMA})

    other = artifact_folder(out, "safetensors")
    (other / "model.py").write_text(f"{CODE}\n\ndef build():\n    return Model()\n")
    save_file(model.state_dict(), other / "state_dict.safetensors")
    write_case(other, "pytorch", rows_of(x[-ROWS:]), expected, {"schema": SCHEMA})

    file = artifact_folder(out, "torchscript") / "digits.pt"
    torch.jit.save(torch.jit.trace(model, last[:2]), file)
    write_case(file, "pytorch", rows_of(x[-ROWS:]), expected, {"schema": SCHEMA})

    file = artifact_folder(out, "export") / "digits.pt2"
    program = torch.export.export(model, (last,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, file)
    names = [str(name) for name in program.graph_signature.user_outputs]
    own = [{"output": one["output"], "probabilities": None} for one in expected]
    # The program names its tensors itself, as the graph does: x, argmax, softmax.
    instances = rows_of(x[-ROWS:], str(program.graph_signature.user_inputs[0]))
    write_case(file, "pytorch", instances, own, {"mapping": {"output_tensor": names[0]}})


def trained(folder: Path, x: Any, y: Any) -> Any:
    """The module of the folder's model.py after a short training."""
    torch.manual_seed(SEED)
    torch.set_num_threads(2)
    model = runpy.run_path(str(folder / "model.py"), run_name="digits_model")["Model"]()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(80):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model.layers(x / 16), y).backward()
        optimizer.step()
    return model.eval()


if __name__ == "__main__":
    run(main)
