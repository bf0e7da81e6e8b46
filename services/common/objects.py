"""Buckets of S3 and GCS: how one is named, opened and waited for, whichever service does so."""

import json
import os
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from obstore.store import GCSStore, S3Store

from services.common.names import is_bucket

if TYPE_CHECKING:  # in their stubs alone
    from obstore.store import ClientConfig, GCSConfig, RetryConfig, S3Config

BucketStore = S3Store | GCSStore
SCHEMES = ("s3", "gs")
_CLIENT: "ClientConfig" = {"connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=60)}
_RETRY: "RetryConfig" = {
    "max_retries": 4,
    "retry_timeout": timedelta(seconds=30),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=3), "base": 2},
}
_PLACES = {"s3": "AWS_ENDPOINT_URL", "gs": "STORAGE_EMULATOR_HOST"}


def bucket_of(uri: str) -> tuple[str, str, str]:
    """Scheme, bucket and key or prefix of an s3:// or gs:// URI. Raises ValueError."""
    parts = urlsplit(uri)
    if parts.scheme not in SCHEMES or not is_bucket(parts.netloc) or parts.query or parts.fragment:
        raise ValueError(f"{uri!r} is no s3://bucket/key or gs://bucket/key")
    return parts.scheme, parts.netloc, parts.path.strip("/")


def open_bucket(scheme: str, bucket: str, *, prefix: str = "", config: "S3Config | None" = None) -> BucketStore:
    """A bucket, by the environment's credentials for its kind: AWS_…, or GOOGLE_APPLICATION_CREDENTIALS. `config` is
    for S3 alone.

    AWS_ENDPOINT_URL and STORAGE_EMULATOR_HOST name another place that speaks the protocol of S3 or GCS. Whoever names
    one without TLS wants it: a store of their own network.
    """
    place = os.environ.get(_PLACES[scheme], "")
    if place and "://" not in place:
        place = f"http://{place}"
    client: ClientConfig = {**_CLIENT, "allow_http": True} if place.startswith("http://") else _CLIENT
    if scheme == "gs":
        account: GCSConfig = {"service_account_key": _without_account(place)} if place else {}
        return GCSStore(bucket, prefix=prefix or None, config=account, client_options=client, retry_config=_RETRY)
    return S3Store(bucket, prefix=prefix or None, config=config or {}, client_options=client, retry_config=_RETRY)


def _without_account(place: str) -> str:
    """The service account that the library takes for "ask there, and as nobody"."""
    account = {
        "gcs_base_url": place,
        "disable_oauth": True,
        "client_email": "",
        "private_key": "",
        "private_key_id": "",
    }
    return json.dumps(account)
