"""MLflow's registry behind its REST API (2.0): models, versions, runs, and the artifacts that the server hands on.

The server is a stranger: its answers are bounded, redirections are not followed, and where it says that artifacts are
on its own disk, that is believed only of a server on this very host.
"""

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx

from services.common.artifacts.tar import canonical_tar
from services.common.errors import MeshError, Reason
from services.registry.adapters.mlflow_mapping import Run, found_version, texts
from services.registry.adapters.mlflow_place import onnx_file
from services.registry.adapters.readers.refused import RefusedError
from services.registry.adapters.readers.tar_walk import safe_path
from services.registry.domain.artifacts import Sender
from services.registry.domain.imports import FoundVersion
from services.registry.ports import ArtifactStore

_API = "/api/2.0/mlflow"
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_ANSWER_BYTES_MAX = 16 * 1024 * 1024
_PAGES_MAX = 1000
_FILES_MAX = 10_000
_DEPTH_MAX = 32
_PIECE_BYTES = 1024 * 1024
_TIMEOUT = httpx.Timeout(30.0)


@dataclass
class _Budget:
    """What one artifact may still take."""

    bytes_left: int
    files: dict[str, Path] = field(default_factory=dict)


class MlflowServer:
    """A `ModelSource`. `client` follows no redirections and asks one host alone."""

    def __init__(self, client: httpx.AsyncClient, store: ArtifactStore, *, is_local: bool, bytes_max: int) -> None:
        self._client = client
        self._store = store
        self._is_local = is_local
        self._bytes_max = bytes_max
        self._runs: dict[str, Run | None] = {}

    async def versions(self, prefix: str) -> AsyncIterator[FoundVersion]:
        """The versions of each model, the models in the server's order."""
        async for model in self._pages("registered-models/search", "registered_models", {"max_results": "100"}):
            name = str(model.get("name", ""))
            if not name.startswith(prefix):
                continue
            quoted = name.replace("'", "\\'")
            query = {"filter": f"name='{quoted}'", "max_results": "200"}
            found = [one async for one in self._pages("model-versions/search", "model_versions", query)]
            for version in sorted(found, key=lambda one: str(one.get("version", "")).rjust(12)):
                run_id = str(version.get("run_id") or "")
                handle = f"{name}\n{version.get('version')}"
                yield found_version(model, version, await self._run(run_id), handle=handle)

    async def artifact_uri(self, found: FoundVersion, *, sender: Sender) -> str:
        """Where the artifact is: a place that the registry reads itself, or the digest of what was fetched."""
        name, _, number = found.handle.partition("\n")
        query = {"name": name, "version": number}
        place = str((await self._get(f"{_API}/model-versions/get-download-uri", query)).get("artifact_uri", ""))
        parts = urlsplit(place)
        if parts.scheme in ("s3", "gs"):
            return place
        if parts.scheme in ("", "file") and self._is_local:
            return place
        if parts.scheme == "mlflow-artifacts":
            return await self._fetched(parts.path.strip("/"), found, sender)
        raise MeshError(
            Reason.ARTIFACT_NOT_FOUND,
            f"the server says that {found.source_name} is at {place[:200]!r}, which is neither handed on by the server "
            "(mlflow-artifacts:) nor in a bucket (s3://, gs://); start it with --serve-artifacts, or import its folder",
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def _run(self, run_id: str) -> Run | None:
        if not run_id:
            return None
        if run_id not in self._runs:
            try:
                answer = await self._get(f"{_API}/runs/get", {"run_id": run_id})
            except MeshError as error:
                if error.reason is not Reason.ARTIFACT_NOT_FOUND:
                    raise
                answer = {}
            self._runs[run_id] = _run_of(run_id, answer.get("run"))
        return self._runs[run_id]

    async def _fetched(self, path: str, found: FoundVersion, sender: Sender) -> str:
        """The digest of the folder, or of the ONNX file in it, which is then in the store."""
        with tempfile.TemporaryDirectory(prefix="infermesh-import-") as folder:
            budget = _Budget(self._bytes_max)
            await self._fetch(path, "", Path(folder), budget, 0)
            mlmodel = budget.files.get("MLmodel")
            alone = onnx_file(await asyncio.to_thread(mlmodel.read_bytes)) if mlmodel is not None else ""
            if alone in budget.files:
                pieces, filename = _content(budget.files[alone]), alone.rpartition("/")[2]
            else:
                ordered = sorted(budget.files.items(), key=lambda one: one[0].encode())
                pieces = canonical_tar((name, one.stat().st_size, _content(one)) for name, one in ordered)
                filename = f"{found.model_name}.tar"
            artifact = await self._store.receive(_off_loop(pieces), filename=filename, sender=sender)
        return f"artifact://sha256/{artifact.digest}"

    async def _fetch(self, path: str, inside: str, folder: Path, budget: _Budget, depth: int) -> None:
        if depth > _DEPTH_MAX:
            raise MeshError(Reason.ARTIFACT_INVALID, f"the server's artifact {path[:200]!r} nests too deeply")
        listed = (await self._get(_ARTIFACTS, {"path": path})).get("files")
        for one in listed if isinstance(listed, list) else ():
            name = _safe(str(one.get("path", "")).rpartition("/")[2]) if isinstance(one, Mapping) else ""
            if not name:
                continue
            if one.get("is_dir"):
                await self._fetch(f"{path}/{name}", f"{inside}{name}/", folder, budget, depth + 1)
                continue
            if len(budget.files) >= _FILES_MAX:
                raise MeshError(
                    Reason.ARTIFACT_INVALID, f"the artifact has more than the {_FILES_MAX} files that are taken"
                )
            into = folder / f"{len(budget.files)}"
            await self._download(f"{path}/{name}", into, budget)
            budget.files[f"{inside}{name}"] = into
        if not depth and not budget.files:
            raise MeshError(Reason.ARTIFACT_NOT_FOUND, f"the server holds no files at {path[:200]!r}")

    async def _download(self, path: str, into: Path, budget: _Budget) -> None:
        async with self._answer(f"{_ARTIFACTS}/{quote(path)}", {}) as response:
            _check(response, path)
            with await asyncio.to_thread(into.open, "xb") as stream:
                async for piece in response.aiter_bytes(_PIECE_BYTES):
                    budget.bytes_left -= len(piece)
                    if budget.bytes_left < 0:
                        raise MeshError(
                            Reason.ARTIFACT_INVALID,
                            f"the artifact has more than the {self._bytes_max} bytes that are taken; raise "
                            "INFERMESH_REGISTRY_ARTIFACT_BYTES_MAX if it is meant to be so large",
                        )
                    await asyncio.to_thread(stream.write, piece)

    async def _pages(self, method: str, member: str, query: Mapping[str, str]) -> AsyncIterator[Mapping[str, object]]:
        token = ""
        for _ in range(_PAGES_MAX):
            answer = await self._get(f"{_API}/{method}", {**query, **({"page_token": token} if token else {})})
            items = answer.get(member)
            for one in items if isinstance(items, list) else ():
                if isinstance(one, Mapping):
                    yield {str(key): value for key, value in one.items()}
            token = str(answer.get("next_page_token") or "")
            if not token:
                return

    async def _get(self, path: str, query: Mapping[str, str]) -> Mapping[str, object]:
        """The JSON object that the server answers. Raises ARTIFACT_NOT_FOUND for 404, else DEPENDENCY_UNAVAILABLE."""
        body = bytearray()
        async with self._answer(path, query) as response:
            _check(response, path)
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > _ANSWER_BYTES_MAX:
                    raise _unexpected(path, f"more than {_ANSWER_BYTES_MAX} bytes")
        try:
            value = json.loads(bytes(body))
        except (ValueError, RecursionError):
            raise _unexpected(path, "no JSON") from None
        if not isinstance(value, dict):
            raise _unexpected(path, "no JSON object")
        return value

    def _answer(self, path: str, query: Mapping[str, str]) -> "_Answer":
        return _Answer(self._client, path, query)


class _Answer:
    """A response being read; failures of the connection are said as such."""

    def __init__(self, client: httpx.AsyncClient, path: str, query: Mapping[str, str]) -> None:
        self._path = path
        self._stream = client.stream("GET", path, params=dict(query))

    async def __aenter__(self) -> httpx.Response:
        try:
            return await self._stream.__aenter__()
        except httpx.HTTPError as error:
            raise _unexpected(self._path, f"nothing ({type(error).__name__})") from error

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        await self._stream.__aexit__(kind, error, None)
        if isinstance(error, httpx.HTTPError):
            raise _unexpected(self._path, f"half of it ({type(error).__name__})") from error


def _check(response: httpx.Response, path: str) -> None:
    if response.status_code == httpx.codes.NOT_FOUND:
        raise MeshError(Reason.ARTIFACT_NOT_FOUND, f"the server knows nothing of {path[:200]}")
    if response.is_redirect:
        raise _unexpected(path, "a redirection, which is not followed: name the server itself")
    if response.status_code != httpx.codes.OK:
        raise _unexpected(path, f"status {response.status_code}")


def _unexpected(path: str, what: str) -> MeshError:
    return MeshError(
        Reason.DEPENDENCY_UNAVAILABLE,
        f"the MLflow server answers {path[:200]} with {what}; see to the server and try again",
        retry_after_s=30.0,
    )


def _run_of(run_id: str, told: object) -> Run | None:
    data = told.get("data") if isinstance(told, Mapping) else None
    if not isinstance(data, Mapping):
        return None
    metrics: dict[str, float] = {}
    for one in data.get("metrics") or ():
        if isinstance(one, Mapping) and isinstance(one.get("value"), int | float):
            metrics[str(one.get("key"))] = float(one["value"])
    return Run(run_id, metrics, texts(data.get("params")), texts(data.get("tags")))


def _safe(name: str) -> str:
    try:
        return safe_path(name)
    except RefusedError as error:
        raise MeshError(Reason.ARTIFACT_INVALID, f"the server's artifact cannot be taken: {error.problem}") from error


def _content(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE_BYTES):
            yield piece


async def _off_loop(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(next, pieces, b""):
        yield piece


def client_of(base: str) -> httpx.AsyncClient:
    """A client of one server that follows no redirections and takes no proxy from the environment."""
    return httpx.AsyncClient(base_url=base, timeout=_TIMEOUT, follow_redirects=False, trust_env=False)
