"""Folders with certificates, as services are given them."""

import shutil
from pathlib import Path

from services.common.clock import SystemClock
from services.common.grpc.tls import AUTHORITY, CERTIFICATE, PRIVATE_KEY
from services.supervisor.certificates import LocalAuthority


def certificates(folder: Path, name: str, *, authority: Path, hosts: tuple[str, ...] = ("127.0.0.1",)) -> Path:
    """`folder / name` with a certificate for `hosts` by the authority in the folder `authority`, made if need be."""
    issued = LocalAuthority(authority, now=SystemClock().now()).issue(name, hosts=hosts)
    made = folder / name
    made.mkdir(parents=True, exist_ok=True)
    for source, target in (
        (issued.authority, AUTHORITY),
        (issued.certificate, CERTIFICATE),
        (issued.private_key, PRIVATE_KEY),
    ):
        shutil.copyfile(source, made / target)
    return made
