"""PyTorch models: TorchScript, programs of torch.export, pickled modules, and a model.py with its state dict."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from places import Place, find_model, zip_names
from torch_files import Callee, open_export, open_folder, open_pickle, open_script

Array = np.ndarray[Any, Any]
_PROGRAMS = {"models/model.json", "serialized_exported_program.json"}


class PytorchModel:
    """One module in evaluation."""

    def __init__(self, callee: Callee, serving: Mapping[str, Any], device: torch.device) -> None:
        self._callee, self._device = callee, device
        self._half = serving.get("precision") == "fp16"
        self._inputs = [str(one["name"]) for one in serving["inputs"]]
        self._outputs = [str(one["name"]) for one in serving["outputs"]]
        callee.check(self._inputs)
        texts = [str(one["name"]) for one in (*serving["inputs"], *serving["outputs"]) if one["datatype"] == "BYTES"]
        if texts:
            raise ValueError(f"tensor {texts[0]!r} holds strings, and PyTorch has tensors of numbers alone")

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        """The named outputs for one batch of rows. Raises what the module raises, and ValueError."""
        given = {name: self._tensor(inputs[name]) for name in self._inputs if name in inputs}
        with torch.inference_mode():
            answer = self._callee(given, self._inputs)
        found = self._named(answer)
        return [_array(found[name], name) for name in outputs]

    def _tensor(self, value: Array) -> torch.Tensor:
        # What Triton lends may be read-only, and torch warns of that: it might be written to.
        value = value if value.flags.writeable and value.flags.c_contiguous else value.copy()
        tensor = torch.from_numpy(value).to(self._device)
        return tensor.half() if self._half and tensor.is_floating_point() else tensor

    def _named(self, answer: Any) -> Mapping[str, Any]:
        """An answer's tensors by the declared names: by the answer's own where it has names, else in order."""
        if isinstance(answer, Mapping):
            lacking = [name for name in self._outputs if name not in answer]
            if lacking:
                raise ValueError(f"the model gives no output {lacking[0]!r}; it gives {', '.join(map(str, answer))}")
            return answer
        parts = list(answer) if isinstance(answer, list | tuple) else [answer]
        own = self._callee.outputs
        if len(own) == len(parts) and set(self._outputs) <= set(own):
            return dict(zip(own, parts, strict=True))
        if len(parts) != len(self._outputs):
            raise ValueError(f"the model gives {len(parts)} tensors; the version declares {', '.join(self._outputs)}")
        return dict(zip(self._outputs, parts, strict=True))


def open_model(path: Path, serving: Mapping[str, Any]) -> PytorchModel:
    """Loads the module at `path`.

    Raises ValueError where it is none, the declared tensors do not fit or there is no such GPU, and what torch raises.
    """
    torch.set_num_threads(int(serving["threads"]))
    device = _device(serving.get("gpu"))
    callee = _opened(find_model(path, "pytorch"), device)
    if serving.get("precision") == "fp16":
        callee.halve()
    return PytorchModel(callee, serving, device)


def _device(gpu: int | None) -> torch.device:
    if gpu is None:
        return torch.device("cpu")
    if gpu >= torch.cuda.device_count():
        raise ValueError(
            f"this PyTorch ({torch.__version__}) sees {torch.cuda.device_count()} GPUs and none with the number {gpu}; "
            "let environments be installed from an index with CUDA's build, or deploy without resources.gpu"
        )
    return torch.device("cuda", gpu)


def _opened(place: Place, device: torch.device) -> Callee:
    if place.path.is_dir():
        return open_folder(place.path, device)
    names = zip_names(place.path)
    if not names.isdisjoint(_PROGRAMS):
        return open_export(place.path, device)
    if "data.pkl" in names and any(name.startswith("code/") for name in names):
        return open_script(place.path, device)
    if "data.pkl" in names:
        return open_pickle(place.path, place.code, device)
    raise ValueError(
        "the artifact is neither TorchScript nor a program of torch.export, nor a folder with model.py and a state dict"
    )


def _array(tensor: Any, name: str) -> Array:
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"the model gives {type(tensor).__name__} for the output {name!r}, which is no tensor")  # noqa: TRY004 - it is the artifact that is wrong
    # numpy has no bfloat16.
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).cpu().numpy()
