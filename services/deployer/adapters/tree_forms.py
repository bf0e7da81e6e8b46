"""What files of XGBoost and LightGBM say of themselves, found in their bytes without reading the trees.

The Forest Inference Library answers as these frameworks do for most models. Those that it answers otherwise, or does
not know, have a problem here: rounds beyond the best one, linear models, words for categories, zeros that mean missing.
"""

import mmap
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from services.deployer.domain.artifact_facts import Facts, Form

_HEAD_BYTES = 256
_UBJSON_SIZES = (b"L", b"i", b"U", b"I", b"l")
"""How UBJSON begins the size of a name, where JSON has a quotation mark."""
_HEADER_BYTES_MAX = 16 * 1024 * 1024
_XGBOOST_NUMBERS = (
    "reg:squarederror",
    "reg:linear",
    "reg:absoluteerror",
    "reg:pseudohubererror",
    "reg:logistic",
    "reg:gamma",
    "reg:tweedie",
    "count:poisson",
    "binary:logitraw",
    "rank:pairwise",
    "rank:ndcg",
    "rank:map",
)
_XGBOOST_MANY = ("multi:softprob", "multi:softmax")
_LIGHTGBM_NUMBERS = (
    "regression",
    "regression_l1",
    "huber",
    "fair",
    "quantile",
    "mape",
    "poisson",
    "gamma",
    "tweedie",
    "cross_entropy",
)
_CATEGORIES = "it has categories, and the fil backend takes other codes for those that are missing"
_OTHER_OBJECTIVE = "its objective is {}, of which the fil backend may make something else"
_BOOSTERS = re.compile(rb'name(?:"\s*:\s*"|SL\0{7}.)(gbtree|gblinear|dart)', re.DOTALL)
_OBJECTIVE = re.compile(rb'name(?:"\s*:\s*"|SL\0{7}.)((?:reg|binary|multi|count|rank|survival):[a-z_]+)', re.DOTALL)
_CATEGORY = re.compile(rb'"c"|SL\0{7}\x01c')


def xgboost_facts(path: Path) -> Facts:
    """Of a booster in JSON or UBJSON. Members are in the order of their names there, as XGBoost writes them."""
    with _bytes_of(path) as data:
        head = bytes(data[:_HEAD_BYTES])
        if head[:1] != b"{" or b"learner" not in head:
            return Facts(None)
        form = Form.XGBOOST_UBJSON if head[1:2] in _UBJSON_SIZES else Form.XGBOOST_JSON
        features, classes = _number(data, "num_feature"), _number(data, "num_class")
        objectives = _OBJECTIVE.findall(data)
        if len(objectives) != 1 or features is None or classes is None:
            return Facts(form, "it does not say what it predicts")
        problem = _xgboost_problem(data)
    objective = objectives[0].decode()
    if problem:
        return Facts(form, problem)
    if objective == "binary:logistic":
        return Facts(form, features=features, classes=2)
    if objective in _XGBOOST_MANY and classes > 1:
        return Facts(form, features=features, classes=classes)
    if objective in _XGBOOST_NUMBERS and classes < 2:
        return Facts(form, features=features)
    return Facts(form, _OTHER_OBJECTIVE.format(objective))


def lightgbm_facts(path: Path) -> Facts:
    """Of a booster in text, whose header is a paragraph of names and values."""
    with _bytes_of(path) as data:
        ends = [at for mark in (b"\n\n", b"\r\n\r\n") if (at := data.find(mark)) >= 0]
        lines = bytes(data[: min((*ends, _HEADER_BYTES_MAX))]).decode().splitlines()
        if lines[:1] != ["tree"]:
            return Facts(None)
        problem = _lightgbm_problem(data)
    header = {name: value for name, _, value in (line.partition("=") for line in lines)}
    features, classes = int(header["max_feature_idx"]) + 1, int(header["num_class"])
    objective, *options = (header.get("objective") or "none").split()
    if problem:
        return Facts(Form.LIGHTGBM, problem)
    if objective == "binary":
        return Facts(Form.LIGHTGBM, features=features, classes=2)
    if objective == "multiclass" and classes > 1:
        return Facts(Form.LIGHTGBM, features=features, classes=classes)
    if objective in _LIGHTGBM_NUMBERS and classes < 2:
        return Facts(Form.LIGHTGBM, features=features)
    return Facts(Form.LIGHTGBM, _OTHER_OBJECTIVE.format(" ".join((objective, *options))))


def _xgboost_problem(data: mmap.mmap) -> str:
    boosters = [name.decode() for name in _BOOSTERS.findall(data)]
    if boosters != ["gbtree"]:
        return f"its booster is {boosters[-1] if boosters else 'not known'}, and not gbtree"
    if data.find(b"best_iteration") >= 0:
        return "it was stopped early, and the fil backend would add the rounds behind its best one"
    if (_number(data, "num_target") or 1) > 1:
        return "it predicts several numbers"
    booster = data.find(b"gradient_booster")
    types = data[max(0, data.rfind(b"feature_types", 0, booster)) : booster]
    return _CATEGORIES if _CATEGORY.search(types) else ""


def _lightgbm_problem(data: mmap.mmap) -> str:
    decisions = {int(code) for line in _values(data, b"decision_type") for code in line.split()}
    if any(int(line) for line in _values(data, b"is_linear")):
        return "its leaves are linear models"
    if data.find(b"\naverage_output") >= 0:
        return "it averages its trees"
    # Bit 0: a category; bits 2 and 3: what is missing, of which 1 is zero.
    if any(code & 1 for code in decisions):
        return _CATEGORIES
    return "it takes zeros for missing" if any(code >> 2 & 3 == 1 for code in decisions) else ""


@contextmanager
def _bytes_of(path: Path) -> Iterator[mmap.mmap]:
    """A file's bytes, read as they are looked at. Raises ValueError where it is empty."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


def _number(data: mmap.mmap, name: str) -> int | None:
    """The last number under that name, which XGBoost writes as a text; it is in the parameters behind the trees."""
    key = name.encode()
    found = re.findall(rb'"%b"\s*:\s*"(\d{1,9})"|%bSL\0{7}.(\d{1,9})' % (key, key), data, re.DOTALL)
    return int(b"".join(found[-1])) if found else None


def _values(data: mmap.mmap, name: bytes) -> Sequence[str]:
    return [value.decode() for value in re.findall(rb"^%b=([0-9 ]*)\r?$" % name, data, re.MULTILINE)]
