"""What the end-to-end tests share: HTTP as a stranger speaks it, held-out data."""

import json
from pathlib import Path
from typing import Any

import httpx

from tests.support.waiting import until

MODEL = "digits"
OLD, NEW = "v1.0.0", "v1.1.0"
TIMEOUT_S = 30.0
"""The longest that one call of a test may take."""
ROOT = Path(__file__).resolve().parents[2]


def bearer(key: str) -> dict[str, str]:
    """The header that shows a key; none for an empty one."""
    return {"authorization": f"Bearer {key}"} if key else {}


class Rest:
    """The REST API, as curl would call it. Every answer is checked to be JSON."""

    def __init__(self, gateway: str, key: str = "") -> None:
        self._http = httpx.Client(base_url=f"http://{gateway}", timeout=TIMEOUT_S, trust_env=False, headers=bearer(key))

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One call, whatever its status."""
        return self._http.request(method, path, **options)

    def ok(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """The body of a call that must succeed."""
        answer = self.call(method, path, **options)
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.text[:2000]}"
        body = answer.json()
        assert isinstance(body, dict)
        return body

    def refused(self, status: int, method: str, path: str, **options: Any) -> dict[str, Any]:
        """The error body of a call that must fail with `status`, checked to be the documented mapping."""
        answer = self.call(method, path, **options)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text[:2000]}"
        body = answer.json()
        assert isinstance(body["code"], int)
        assert isinstance(body["message"], str)
        assert body["message"]
        assert isinstance(body["details"], list)
        return dict(body)

    def predict(self, body: dict[str, Any], *, model: str = MODEL, **options: Any) -> dict[str, Any]:
        """A prediction that must succeed."""
        return self.ok("POST", f"/v1/models/{model}/predict", json=body, **options)


def reason(error: dict[str, Any]) -> str:
    """The `google.rpc.ErrorInfo.reason` of an error body."""
    found = [item["reason"] for item in error["details"] if item["@type"].endswith("google.rpc.ErrorInfo")]
    assert len(found) == 1, error
    return str(found[0])


def violations(error: dict[str, Any]) -> dict[str, str]:
    """Field to description, out of the `google.rpc.BadRequest` of an error body."""
    found: dict[str, str] = {}
    for detail in error["details"]:
        if detail["@type"].endswith("google.rpc.BadRequest"):
            for item in detail.get("field_violations", detail.get("fieldViolations", [])):
                found[item["field"]] = item["description"]
    return found


def holdout(limit: int | None = None) -> list[dict[str, Any]]:
    """Rows `{"id", "X", "digit"}` that no training saw."""
    path = ROOT / ".build" / "digits" / "holdout.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return rows[:limit]


DIGITS = ROOT / ".build" / "digits"
ACTIVE_WITHIN_S = 90.0


def registration(name: str, version: str) -> dict[str, Any]:
    """What registers one of the trained versions as `name`."""
    trained = json.loads((DIGITS / f"digits-{version}.json").read_text())
    return {
        "name": name,
        "version": version,
        "framework": "onnx",
        "framework_version": trained["framework_version"],
        "artifact_uri": (DIGITS / trained["artifact"]).as_uri(),
        "metadata": {"class_names": trained["metadata"]["class_names"], "accuracy": 0.9, "tags": ["tried", "e2e"]},
    }


def deploy(rest: Rest, model: str, version: str, name: str, **more: Any) -> None:
    """Deploys a version and waits until it is active."""
    rest.ok("POST", f"/v1/models/{model}/deployments", json={"version": version, "deployment_name": name, **more})
    until(
        lambda: rest.ok("GET", f"/v1/models/{model}/deployments/{name}")["status"] == "active",
        within_s=ACTIVE_WITHIN_S,
        what=f"{model} {version} becomes active",
    )
