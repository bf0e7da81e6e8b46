"""What of an MLflow model folder is registered: the whole, or the one file that model servers load by itself."""

import yaml


def onnx_file(mlmodel: bytes) -> str:
    """The ONNX file of a folder whose MLmodel names one; "" for other kinds, whose folder is registered whole."""
    try:
        said = yaml.load(mlmodel, Loader=yaml.CBaseLoader)  # noqa: S506 - it makes texts, lists and mappings alone
    except (yaml.YAMLError, ValueError, RecursionError):
        return ""
    flavors = said.get("flavors") if isinstance(said, dict) else None
    onnx = flavors.get("onnx") if isinstance(flavors, dict) else None
    path = onnx.get("data") if isinstance(onnx, dict) else None
    safe = isinstance(path, str) and path.isprintable() and ".." not in path and not path.startswith("/")
    return str(path) if safe and path not in ("", "null") else ""
