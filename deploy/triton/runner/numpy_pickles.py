"""Lets numpy 1, which Triton's python backend needs, read pickles that numpy 2 wrote."""

import sys
from typing import Any

import numpy as np
from numpy.random import BitGenerator, Generator, RandomState, _pickle

_MODULES, _MODULES_2 = "numpy.core", "numpy._core"


def accept_numpy_2() -> None:
    """From now on, unpickling finds numpy 2's names, and takes its random generators, which many estimators keep."""
    if int(np.__version__.partition(".")[0]) >= 2:
        return
    for name, module in list(sys.modules.items()):
        if name == _MODULES or name.startswith(f"{_MODULES}."):
            # numpy 1.26 has some of them itself.
            sys.modules.setdefault(name.replace(_MODULES, _MODULES_2, 1), module)
    for name, made in (
        ("__bit_generator_ctor", _bit_generator),
        ("__generator_ctor", _generator),
        ("__randomstate_ctor", _random_state),
    ):
        # Pickles that are written here name them as ever.
        made.__module__, made.__name__, made.__qualname__ = _pickle.__name__, name, name
        setattr(_pickle, name, made)


def _bit_generator(kind: Any = "MT19937") -> BitGenerator:
    """numpy 1 writes a generator's name and its state, numpy 2 its class and a pair of state and seed."""
    base = kind if isinstance(kind, type) else _pickle.BitGenerators[kind]
    return type(base.__name__, (base,), {"__setstate__": _set_state})()


def _set_state(self: Any, state: Any) -> None:
    self.state = state[0] if isinstance(state, tuple) else state


def _generator(kind: Any = "MT19937", _made_by: Any = None) -> Generator:
    return Generator(_bits(kind))


def _random_state(kind: Any = "MT19937", _made_by: Any = None) -> RandomState:
    return RandomState(_bits(kind))


def _bits(kind: Any) -> BitGenerator:
    """numpy 2 hands over the bit generator itself."""
    return kind if isinstance(kind, BitGenerator) else _bit_generator(kind)
