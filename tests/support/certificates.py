"""Folders with certificates, as services are given them."""

from pathlib import Path

from services.common.clock import SystemClock
from services.supervisor.certificates import LocalAuthority


def certificates(folder: Path, name: str, *, authority: Path, hosts: tuple[str, ...] = ("127.0.0.1",)) -> Path:
    """`folder / name` with a certificate for `hosts` by the authority in the folder `authority`, made if need be."""
    made = LocalAuthority(authority, now=SystemClock().now()).folder_for(name, hosts=hosts)
    wanted = folder / name
    wanted.mkdir(parents=True, exist_ok=True)
    for file in made.iterdir():
        (wanted / file.name).write_bytes(file.read_bytes())
    return wanted
