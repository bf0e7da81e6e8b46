"""A real S3 endpoint: moto's server in a thread of the tests, with buckets of its own.

It answers for GCS too: the object-store library speaks GCS's XML API, which is that of S3 but for what is named here.
"""

import os
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote

import boto3  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

_SOMEBODY = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


@dataclass(frozen=True)
class Request:
    """What one request asked for. `range` is empty for a whole object."""

    method: str
    key: str
    range: str


@dataclass(frozen=True)
class S3:
    """An endpoint and one empty bucket in it."""

    endpoint: str
    bucket: str
    requests: list[Request] = field(default_factory=list)
    """What it was asked, in order."""
    before: list[Callable[[Request], object]] = field(default_factory=list)
    """Called, each once, before the next request is answered."""

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs in its environment to reach it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "STORAGE_EMULATOR_HOST": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    @property
    def client(self) -> Any:
        """A client of another make than the one under test."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}),
        )

    def put(self, key: str, content: bytes) -> str:
        """Puts an object; its URI."""
        self.client.put_object(Bucket=self.bucket, Key=key, Body=content)
        return f"s3://{self.bucket}/{key}"

    def keys(self, prefix: str = "") -> list[str]:
        """The keys that are there."""
        listed = self.client.list_objects_v2(Bucket=self.bucket, Prefix=prefix)
        return [one["Key"] for one in listed.get("Contents", [])]

    def get(self, key: str) -> bytes:
        """The bytes of an object."""
        content: bytes = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return content


@contextmanager
def s3_server() -> Iterator[S3]:
    """A server with an empty bucket, and the environment of this process set so that it is found."""
    asked = _Asked()
    server = make_server("127.0.0.1", 0, asked, threaded=True)
    thread = threading.Thread(target=server.serve_forever, name="moto")
    thread.start()
    found = S3(f"http://127.0.0.1:{server.server_port}", f"models-{secrets.token_hex(4)}")
    asked.client = found.client
    asked.requests, asked.before = found.requests, found.before
    before = {name: os.environ.get(name) for name in found.environment}
    os.environ.update(found.environment)
    try:
        found.client.create_bucket(Bucket=found.bucket)
        yield found
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        server.shutdown()
        thread.join()
        server.server_close()


class _Asked:
    """moto, and of what GCS has of its own: nobody's token, copies, and "put it only if it is not there"."""

    client: Any

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.before: list[Callable[[Request], object]] = []
        self._moto = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        key = environ["PATH_INFO"].lstrip("/").partition("/")[2]
        request = Request(environ["REQUEST_METHOD"], key, environ.get("HTTP_RANGE", ""))
        self.requests.append(request)
        calls, self.before[:] = list(self.before), []
        for call in calls:
            call(request)
        if not environ.get("HTTP_AUTHORIZATION", "").startswith("AWS4"):
            environ["HTTP_AUTHORIZATION"] = _SOMEBODY
            # Every other character comes escaped, which moto takes for part of the bucket's name.
            path, mark, query = environ["RAW_URI"].partition("?")
            environ["RAW_URI"] = environ["REQUEST_URI"] = quote(unquote(path)) + mark + query
        if source := environ.get("HTTP_X_GOOG_COPY_SOURCE"):
            environ["HTTP_X_AMZ_COPY_SOURCE"] = unquote(source)
        if environ.get("HTTP_X_GOOG_IF_GENERATION_MATCH") == "0" and self._is_there(environ["PATH_INFO"]):
            start_response("412 Precondition Failed", [("Content-Length", "0")])
            return []
        answer: Iterable[bytes] = self._moto(environ, start_response)
        return answer

    def _is_there(self, path: str) -> bool:
        bucket, _, key = path.lstrip("/").partition("/")
        found = self.client.list_objects_v2(Bucket=bucket, Prefix=key).get("Contents", [])
        return any(one["Key"] == key for one in found)
