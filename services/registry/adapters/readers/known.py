"""Kinds of files that are known and cannot be taken, so that their owner is told what to do."""

from dataclasses import dataclass

from services.registry.adapters.readers.contents import Contents


@dataclass(frozen=True, slots=True)
class Known:
    """What it is, and how to save the model instead."""

    form: str
    advice: str


_HEADS = (
    (b"\x89HDF\r\n\x1a\n", Known("an HDF5 file of Keras", "load it and save a SavedModel by model.export(folder)")),
    (b"binf", Known("a binary model of XGBoost", 'save it by booster.save_model("model.ubj")')),
    (b"CBM1", Known("a CatBoost model", 'save it by model.save_model(path, format="onnx")')),
    (b"GGUF", Known("a GGUF file", "export the model to ONNX")),
    (b"<?xml", Known("an XML file, PMML perhaps", "export the model to ONNX")),
    (b"PAR1", Known("a Parquet file, which is data", "give the path of the model")),
    (b"Rar!", Known("a RAR archive", "pack the model as tar.gz")),
    (b"7z\xbc\xaf", Known("a 7z archive", "pack the model as tar.gz")),
)
_TFLITE = Known("a TensorFlow Lite file", "convert it by tf2onnx, or save a SavedModel")
_SAFETENSORS = Known("a safetensors file, which holds weights alone", "export the whole model to ONNX")
_KERAS = Known("a Keras file", "load it and save a SavedModel by model.export(folder)")


def known(contents: Contents) -> Known | None:
    """The kind, by the first bytes; None where it is none of these."""
    head = contents.head
    for begins, kind in _HEADS:
        if head.startswith(begins):
            return kind
    if head[4:8] == b"TFL3":
        return _TFLITE
    if head[8:9] == b"{" and b'"dtype"' in head and b'"data_offsets"' in head:
        return _SAFETENSORS
    entries = contents.zip()
    return _KERAS if {"config.json", "metadata.json"} <= set(entries) and "model.weights.h5" in entries else None
