"""The forms in which PyTorch keeps a module, each opened as something that can be called with named tensors."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.export.passes import move_to_device_pass
from user_code import importable, load_module

Tensors = Mapping[str, torch.Tensor]
_STATES = ("state_dict.pt", "state_dict.pth", "state_dict.safetensors")


class Callee:
    """A module, and how it takes its tensors: by name where its own names are the declared ones, else in order."""

    def __init__(
        self,
        module: torch.nn.Module,
        parameters: Sequence[str],
        *,
        call: Any = None,
        by_keyword: Sequence[str] = (),
        outputs: Sequence[str] = (),
    ) -> None:
        """`parameters` in the order of the call; `by_keyword` are those that it takes by name alone. `call` is how the
        module is called where that is not by itself."""
        self._module, self._call = module, module if call is None else call
        self._parameters, self._by_keyword = list(parameters), set(by_keyword)
        self.outputs = list(outputs)
        """The names that the module itself has for what it gives; none where it has none."""

    def halve(self) -> None:
        """Turns the weights into half precision; tensors must come so, too."""
        self._module.half()

    def check(self, declared: Sequence[str]) -> None:
        """Raises ValueError where more inputs are declared than the module takes."""
        self._own(declared)

    def __call__(self, given: Tensors, declared: Sequence[str]) -> Any:
        """What the module gives. `declared` are all inputs in order. Raises ValueError, and what the module raises."""
        own = self._own(declared)
        named = {own[name]: tensor for name, tensor in given.items()}
        positional = []
        for name in own.values():
            # Behind one that is left out, and may be, the others go by their names.
            if name not in named or name in self._by_keyword:
                break
            positional.append(named.pop(name))
        return self._call(*positional, **named)

    def _own(self, declared: Sequence[str]) -> Mapping[str, str]:
        """The module's name of each declared input, in the module's order."""
        if not self._parameters:
            return {name: name for name in declared}
        if set(declared) <= set(self._parameters):
            return {name: name for name in self._parameters if name in declared}
        if len(declared) > len(self._parameters):
            raise ValueError(
                f"the model takes {len(self._parameters)} tensors ({', '.join(self._parameters)}), "
                f"and the version declares {', '.join(declared)}"
            )
        return dict(zip(declared, self._parameters, strict=False))


def open_script(path: Path, device: torch.device) -> Callee:
    """TorchScript, whose forward names its arguments."""
    module = torch.jit.load(path, map_location=device).eval()
    return Callee(module, [one.name for one in module.forward.schema.arguments if one.name != "self"])


def open_export(path: Path, device: torch.device) -> Callee:
    """A program of torch.export, which names its tensors and takes each as it did when it was exported."""
    # By its stream: of a file with another ending than .pt2 torch complains.
    with path.open("rb") as stream:
        program = torch.export.load(stream)
    if device.type != "cpu":
        program = move_to_device_pass(program, device)
    signature = program.graph_signature
    args, kwargs = program.call_spec.in_spec.children()
    names = [str(name) for name in signature.user_inputs]
    keys = list(kwargs.context or ())
    if len(names) != args.num_children + len(keys):
        raise ValueError("the program takes lists or dicts of tensors; export one that takes each tensor by itself")
    module = program.module()
    # A keyword's tensor has a name of its own in the graph, by which it was registered.
    renamed = dict(zip(names[args.num_children :], keys, strict=True))
    outputs = [str(name) for name in signature.user_outputs]

    def call(*given: torch.Tensor, **named: torch.Tensor) -> Any:
        return module(*given, **{renamed.get(name, name): tensor for name, tensor in named.items()})

    return Callee(module, names, call=call, by_keyword=list(renamed), outputs=outputs)


def open_pickle(path: Path, code: Path | None, device: torch.device) -> Callee:
    """A whole module that torch.save wrote, as MLflow keeps one. It runs code: the registry asked whether it may."""
    if code is not None:
        importable(code)
    module = torch.load(path, map_location=device, weights_only=False)
    if not isinstance(module, torch.nn.Module):
        raise ValueError(  # noqa: TRY004 - it is the artifact that is wrong
            f"the artifact holds {type(module).__name__} and no module; put the weights into a folder with a model.py"
        )
    return _of_module(module, device)


def open_folder(folder: Path, device: torch.device) -> Callee:
    """What model.py builds, with the weights beside it.

    Raises ValueError where either is missing, and torch's own error where they do not fit each other.
    """
    files = [folder / name for name in _STATES if (folder / name).is_file()]
    if len(files) != 1:
        there = f"{len(files)} of them" if files else "none"
        raise ValueError(f"the folder must hold one of {', '.join(_STATES)} beside model.py; it holds {there}")
    module = _built(load_module(folder / "model.py"))
    module.load_state_dict(_weights(files[0]), strict=True)
    return _of_module(module, device)


def _built(code: ModuleType) -> torch.nn.Module:
    build, kind = getattr(code, "build", None), getattr(code, "Model", None)
    if callable(build):
        made = build()
    elif isinstance(kind, type) and issubclass(kind, torch.nn.Module):
        made = kind()
    else:
        raise ValueError("model.py has neither a function build() nor a class Model(torch.nn.Module)")  # noqa: TRY004 - it is the artifact that is wrong
    if not isinstance(made, torch.nn.Module):
        raise ValueError(f"build() of model.py gives {type(made).__name__} and no torch.nn.Module")  # noqa: TRY004 - it is the artifact that is wrong
    return made


def _weights(file: Path) -> Mapping[str, torch.Tensor]:
    if file.suffix == ".safetensors":
        # Only these files need it.
        from safetensors.torch import load_file  # noqa: PLC0415

        return load_file(file)
    # torch.load would refuse them as well, in a page of text.
    foreign = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    if foreign:
        raise ValueError(f"{file.name} holds {foreign[0]}, which is more than weights; save module.state_dict()")
    state = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(state, Mapping):
        raise ValueError(f"{file.name} holds {type(state).__name__} and no state dict; save module.state_dict()")  # noqa: TRY004 - it is the artifact that is wrong
    return state


def _of_module(module: torch.nn.Module, device: torch.device) -> Callee:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = [one for one in inspect.signature(module.forward).parameters.values() if one.kind in kinds]
    by_keyword = [one.name for one in parameters if one.kind is inspect.Parameter.KEYWORD_ONLY]
    return Callee(module.eval().to(device), [one.name for one in parameters], by_keyword=by_keyword)
