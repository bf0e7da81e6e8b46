"""A real S3 endpoint: moto's server in a thread of the tests, with buckets of its own."""

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from moto.server import ThreadedMotoServer


@dataclass(frozen=True)
class S3:
    """An endpoint and one empty bucket in it."""

    endpoint: str
    bucket: str

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs in its environment to reach it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
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
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    found = S3(f"http://{host}:{port}", f"models-{secrets.token_hex(4)}")
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
        server.stop()
