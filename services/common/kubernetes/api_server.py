"""Calls to the API server: a pace, a deadline and an error that says what to do.

Credentials are kubernetes_asyncio's: those of the pod, or of a kubeconfig with all that may stand in one. Objects stay
what they are, JSON; models in Python for each kind would be a second list of fields to keep true.
"""

import json
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
from prometheus_client import CollectorRegistry, Counter

from services.common.body import Body, items, text
from services.common.clock import Clock
from services.common.errors import FieldViolation, MeshError, Reason
from services.common.kubernetes.pace import Pace

if TYPE_CHECKING:
    from kubernetes_asyncio.client import ApiClient

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
_JSON = "application/json"
_WORDS_MAX = 1500
_NO_SUCH_FIELD = "field not declared in schema"
"""What an apply of a field that does not exist is answered with, as an error of the server's own."""
_CLIENT_ERROR = 400
_NOT_FOUND, _CONFLICT, _GONE, _TOO_MANY, _SERVER_ERROR = 404, 409, 410, 429, 500


def counted(service: str, registry: CollectorRegistry) -> Counter:
    """Counts a service's calls to all of its API servers."""
    name = f"{service}_api_calls_total"
    return Counter(name, "Calls to the API server", ("verb", "kind", "code"), registry=registry)


class ApiServer:
    """One API server. `open` before the first call, `close` after the last."""

    def __init__(
        self,
        *,
        kubeconfig: Path | None,
        clock: Clock,
        calls_per_s: float,
        calls_burst: int,
        deadline_s: float,
        calls: Counter,
        service: str,
    ) -> None:
        # Only here: importing it takes a second, and most meshes have no cluster.
        from kubernetes_asyncio.client import Configuration  # noqa: PLC0415

        self._service = service
        self._kubeconfig = kubeconfig
        self._clock = clock
        self._deadline_s = deadline_s
        self._pace = Pace(calls_per_s, calls_burst, float(calls_burst), clock.monotonic())
        self._client: ApiClient | None = None
        self._calls = calls
        self.configuration = Configuration()

    async def open(self) -> None:
        """Reads the credentials. Raises SystemExit with one sentence where there are none."""
        from kubernetes_asyncio.client import ApiClient  # noqa: PLC0415
        from kubernetes_asyncio.config import load_incluster_config, load_kube_config  # noqa: PLC0415

        try:
            if self._kubeconfig is not None:
                await load_kube_config(
                    str(self._kubeconfig), client_configuration=self.configuration, persist_config=False
                )
            else:
                load_incluster_config(client_configuration=self.configuration)  # type: ignore[no-untyped-call]
        except Exception as error:
            where = self._kubeconfig or "this pod's service account"
            raise SystemExit(
                f"the credentials of {where} cannot be read ({error}); name a kubeconfig in the settings of the "
                f"{self._service}, or run in a pod with a service account"
            ) from None
        self._client = ApiClient(self.configuration)

    async def close(self) -> None:
        """Closes the connections."""
        if self._client is not None:
            await self._client.close()

    async def call(
        self,
        verb: str,
        path: str,
        *,
        kind: str,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = _JSON,
        urgent: bool = False,
    ) -> Body:
        """What the API server answers; `urgent` calls keep no pace. Raises DEPENDENCY_UNAVAILABLE, ETAG_MISMATCH where
        somebody else was quicker, and CLUSTER_REFUSED with `metadata["status"]`."""
        wait_s = 0.0 if urgent else self._pace.take(self._clock.monotonic())
        if wait_s > 0:
            await self._clock.sleep(wait_s)
        try:
            response = await self._send(
                verb, path, query=query, timeout_s=self._deadline_s, body=body, content_type=content_type
            )
            data = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._calls.labels(verb, kind, "none").inc()
            raise _unavailable(f"does not answer ({str(error) or type(error).__name__})") from error
        self._calls.labels(verb, kind, str(response.status)).inc()
        answer = _read(data)
        if response.status < 300:
            return answer
        raise _refusal(response.status, answer, f"{verb} {path}: {response.status}")

    async def watch(
        self, path: str, *, kind: str, query: Mapping[str, str], lasts_s: float
    ) -> AsyncGenerator[Body, None]:
        """The events of a watch, for `lasts_s` seconds at the most, which the API server is told too. Ends when it
        does. Raises as `call` does."""
        asked = {**query, "watch": "true", "timeoutSeconds": str(int(lasts_s))}
        try:
            response = await self._send("GET", path, query=asked, timeout_s=lasts_s + self._deadline_s)
            self._calls.labels("WATCH", kind, str(response.status)).inc()
            if response.status >= _CLIENT_ERROR:
                answer = _read(await response.read())
                raise _refusal(response.status, answer, f"watching {path}: {response.status}")
            async with response:
                async for line in response.content:
                    yield _read(line)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise _unavailable(f"broke off a watch ({str(error) or type(error).__name__})") from error

    async def _send(
        self,
        verb: str,
        path: str,
        *,
        query: Mapping[str, str] | None,
        timeout_s: float,
        body: object = None,
        content_type: str = _JSON,
    ) -> aiohttp.ClientResponse:
        assert self._client is not None, "opened by the lifecycle"
        headers = {"Accept": _JSON, "Content-Type": content_type}
        await self._client.update_params_for_auth(headers, [], ["BearerToken"])
        response: aiohttp.ClientResponse = await self._client.rest_client.request(
            verb,
            f"{self.configuration.host}{path}",
            query_params=dict(query or {}),
            headers=headers,
            body=body,
            _preload_content=False,
            _request_timeout=timeout_s,
        )
        return response

    def calls(self) -> Mapping[tuple[str, str], int]:
        """How many calls there were, by verb and kind."""
        found: dict[tuple[str, str], int] = {}
        for metric in self._calls.collect():
            for sample in metric.samples:
                if sample.name.endswith("_total"):
                    key = (sample.labels["verb"], sample.labels["kind"])
                    found[key] = found.get(key, 0) + int(sample.value)
        return found


def is_missing(error: MeshError) -> bool:
    """Whether what was called for is not there."""
    return error.metadata.get("status") == str(_NOT_FOUND)


def is_expired(error: MeshError) -> bool:
    """Whether a watch asked for what the API server does not remember any more."""
    return error.metadata.get("status") == str(_GONE)


def _read(data: bytes) -> Body:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _refusal(status: int, answer: Body, otherwise: str) -> MeshError:
    words = text(answer, "message")[:_WORDS_MAX] or otherwise
    if status == _CONFLICT:
        return MeshError(Reason.ETAG_MISMATCH, f"{words}; it is looked at again", retry_after_s=0.5)
    if (status == _TOO_MANY or status >= _SERVER_ERROR) and _NO_SUCH_FIELD not in words:
        return _unavailable(f"says {status} ({words})")
    violations = [
        FieldViolation(text(one, "field"), text(one, "message"))
        for one in items(answer, "details", "causes")
        if text(one, "field")
    ]
    return MeshError(Reason.CLUSTER_REFUSED, words, metadata={"status": str(status)}, violations=violations)


def _unavailable(words: str) -> MeshError:
    return MeshError(
        Reason.DEPENDENCY_UNAVAILABLE,
        f"the cluster's API server {words}; it is tried again",
        retry_after_s=1.0,
    )
