"""What an artifact turned out to be when it was looked at, as far as Triton's native backends care."""

from dataclasses import dataclass
from enum import StrEnum


class Form(StrEnum):
    """The forms of files and folders that native backends load, as sentences call them."""

    ONNX = "an ONNX file"
    TORCHSCRIPT = "TorchScript"
    SAVED_MODEL = "a SavedModel"
    XGBOOST_JSON = "an XGBoost model in JSON"
    XGBOOST_UBJSON = "an XGBoost model in UBJSON"
    LIGHTGBM = "a LightGBM model"


@dataclass(frozen=True, slots=True)
class Facts:
    """What is in an artifact. Names are empty where its form has none, or nothing asks for them."""

    form: Form | None
    """None: nothing that a native backend loads."""
    problem: str = ""
    """Why no native backend may run it, as a clause; empty where one may."""
    inputs: tuple[str, ...] = ()
    """The model's own names of the tensors that it takes, in its order."""
    outputs: tuple[str, ...] = ()
    """The same of what it gives. TorchScript has no names for them: as many empty ones."""
    features: int = 0
    """Of trees: how many numbers a row has."""
    classes: int = 0
    """Of trees: how many classes they tell apart; 0 where they give one number."""
