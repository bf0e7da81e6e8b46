"""Python code that comes with an artifact, kept apart from the runner's own modules."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

_OWN = Path(__file__).resolve().parent
_NAME = "artifact_model"
"""What a model.py of an artifact is called: the runner has a module `model` itself."""


def importable(folder: Path) -> None:
    """Lets code import the modules in `folder`, before all others.

    Modules of the runner that were imported under a name that the folder has too step aside: what they do goes on,
    and whoever imports the name from now on gets the folder's. Nothing is compiled into the folder, because the
    deployer checks that an artifact's files are the ones that were registered.
    """
    sys.dont_write_bytecode = True
    theirs = {one.stem for one in folder.iterdir() if one.suffix == ".py" or one.is_dir()}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name in theirs and file is not None and Path(file).resolve().parent == _OWN:
            del sys.modules[name]
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    importlib.invalidate_caches()


def load_module(file: Path) -> ModuleType:
    """Runs the Python file of an artifact; the modules beside it can be imported. Raises what the code raises."""
    importable(file.parent)
    spec = importlib.util.spec_from_file_location(_NAME, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file.name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses, pickles and type hints look a class's module up there, and modules beside it may import it.
    names = (_NAME, file.stem)
    sys.modules.update(dict.fromkeys(names, module))
    try:
        spec.loader.exec_module(module)
    except BaseException:
        for name in names:
            del sys.modules[name]
        raise
    return module


def own_classes(module: ModuleType) -> list[type]:
    """The classes that the module defines itself, not those that it imports, in their order."""
    classes = (one for one in vars(module).values() if isinstance(one, type))
    return [one for one in classes if one.__module__ == module.__name__]
