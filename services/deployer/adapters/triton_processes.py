"""The processes in which a Triton on this machine runs models: its python backend gives each copy one of its own.

What they use (CPU time, memory) is the caller's to read from them. Everything here reads /proc and blocks for some
milliseconds, so it is called in a thread.
"""

import ipaddress
import re
import socket
from collections.abc import Mapping, Sequence

import psutil

_SERVER = "tritonserver"
_STUB = "triton_python_backend_stub"
# The stub's first argument: …/<server model name>/<Triton's version>/model.py
_MODEL_FILE = re.compile(r"(?:.*/)?(?P<model>[^/]+)/\d+/[^/]+\.py")


class TritonProcesses:
    """Of the Triton that listens at `http_address` (host:port), which may be started anew at any time."""

    def __init__(self, http_address: str) -> None:
        host, _, port = http_address.rpartition(":")
        self._host = host.strip("[]")
        self._port = int(port)
        self._server: psutil.Process | None = None
        self._known: dict[psutil.Process, str] = {}

    def server(self) -> psutil.Process | None:
        """The server's own process; None where it is not on this machine, is down, or may not be looked at."""
        if self._server is None or not self._server.is_running():
            self._server, self._known = self._listening(), {}
        return self._server

    def copies(self) -> Mapping[str, Sequence[psutil.Process]] | None:
        """The processes of each model by its name on the server, also those that are only just loaded or on their way
        out; None as for `server`. Any of them may end at any moment: what is asked of it then raises `psutil.Error`.
        """
        server = self.server()
        if server is None:
            return None
        try:
            children = server.children()
        except psutil.Error:
            return None
        # A copy is a fork of the server, or a shell, until it has become a stub: only what is one stays known.
        known = {child: name for child in children if (name := self._known.get(child) or _runs(child))}
        self._known = known
        found: dict[str, list[psutil.Process]] = {}
        for child, name in known.items():
            found.setdefault(name, []).append(child)
        return found

    def _listening(self) -> psutil.Process | None:
        hosts = _here(self._host)
        if not hosts:
            return None
        for process in psutil.process_iter():
            try:
                if process.name() == _SERVER and any(
                    one.status == psutil.CONN_LISTEN and one.laddr.port == self._port and _plain(one.laddr.ip) in hosts
                    for one in process.net_connections("tcp")
                ):
                    return process
            except psutil.Error:
                continue
        return None


def _here(host: str) -> frozenset[str]:
    """What a server that is reached by this name may listen on; nothing where the name is another machine's."""
    try:
        named = {_plain(str(found[4][0])) for found in socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)}
    except OSError:
        return frozenset()
    own = {_plain(one.address) for card in psutil.net_if_addrs().values() for one in card if _is_ip(one.address)}
    local = {one for one in named if one in own or ipaddress.ip_address(one).is_loopback}
    return frozenset({*local, "0.0.0.0", "::"}) if local else frozenset()  # noqa: S104 - nothing is bound here


def _plain(address: str) -> str:
    """An address without its zone, and as IPv4 where it is one within IPv6."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return True


def _runs(process: psutil.Process) -> str | None:
    """The model that a process runs; None where it is no stub, not yet, or not any more."""
    try:
        argv = process.cmdline()
    except psutil.Error:
        return None
    if len(argv) < 2 or not argv[0].endswith(_STUB):
        return None
    match = _MODEL_FILE.fullmatch(argv[1])
    return match["model"] if match else None
