"""How often Python looks for garbage that refers to itself.

A service has some hundred thousand objects once it runs, nearly all of them modules, classes and tables that live as
long as it does. Looked through again and again, they stop every call for 100 ms and more, so they are set aside once.
"""

import gc

_YOUNG_OBJECTS = 20_000
"""A page of fifty versions makes some ten thousand objects, all gone with the answer by counting references alone."""


def settle() -> None:
    """Sets aside what was made so far, and looks for garbage less often. To be called once everything runs."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, 20, 50)
