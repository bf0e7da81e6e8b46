"""Environments that uv makes, of packages that lie in a folder here: nothing is asked of the network."""

import asyncio
import math
import os
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import uv

from services.common.clock import SystemClock
from services.common.errors import MeshError, Reason
from services.deployer.adapters.environments import UvEnvironments
from services.deployer.adapters.installer import Installer
from services.deployer.domain.environment import FRAMEWORKS, Environment
from services.supervisor.settings import ROOT

PYTHON = ROOT / ".venv-serving" / "bin" / "python"
DAY_S = 86_400.0
OTHER = Environment("python", ("anvil",))


def wheel(folder: Path, name: str, version: str, needs: str = "") -> None:
    """A package of one module that says its version."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as made:
        made.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        made.writestr(f"{info}/METADATA", metadata + (f"Requires-Dist: {needs}\n" if needs else ""))
        made.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: here\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        made.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


@pytest.fixture
def installer(tmp_path: Path) -> Installer:
    """An empty index, a folder of wheels and lock files that name one of them."""
    (tmp_path / "index").mkdir()
    (tmp_path / "locks").mkdir()
    for framework in FRAMEWORKS:
        (tmp_path / "locks" / f"{framework}.lock").write_text("# comment\nhammer==1.0\n    # via nothing\n")
    wheel(tmp_path / "wheels", "hammer", "1.0")
    wheel(tmp_path / "wheels", "hammer", "2.0")
    wheel(tmp_path / "wheels", "anvil", "1.0", needs="hammer>=2")
    return Installer(
        uv=Path(uv.find_uv_bin()),
        python=PYTHON,
        locks=tmp_path / "locks",
        index=(tmp_path / "index").as_uri(),
        links=(str(tmp_path / "wheels"),),
    )


Make = Callable[[], UvEnvironments]


@pytest.fixture
def make(tmp_path: Path, installer: Installer) -> Make:
    """Another deployer over the same folder, each time."""
    return lambda: UvEnvironments(tmp_path / "environments", installer, clock=SystemClock(), keep_s=DAY_S)


class Heard:
    """What was reported."""

    def __init__(self) -> None:
        self.words: list[str] = []

    async def __call__(self, words: str) -> None:
        self.words.append(words)


def installers() -> list[psutil.Process]:
    return [one for one in psutil.Process().children(recursive=True) if one.name() == "uv"]


def version_of(place: Path, module: str) -> str:
    code = f"import {module}; print({module}.VERSION)"
    command = [str(place / "bin" / "python"), "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


async def test_a_lock_file_is_installed_once_and_then_found(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    # Where it takes long it is told in uv's words how far it is; how long it takes is the machine's affair.
    monkeypatch.setattr("services.deployer.adapters.installer._REPORT_EVERY_S", math.inf)
    heard, again = Heard(), Heard()
    place = await make().ensure(Environment("python"), heard)
    assert version_of(place, "hammer") == "1.0"
    assert (place / "bin" / "activate").is_file()
    assert heard.words == ["building an environment with the lock file of python"]
    assert await make().ensure(Environment("python"), again) == place
    assert again.words == []


async def test_own_requirements_are_met_with_all_that_they_need(make: Make) -> None:
    place = await make().ensure(OTHER, Heard())
    assert (version_of(place, "anvil"), version_of(place, "hammer")) == ("1.0", "2.0")


async def test_deployers_that_want_it_at_once_build_it_once(make: Make) -> None:
    heard = [Heard() for _ in range(4)]
    one = make()
    builders = (one, one, make(), make())
    wanted = [builder.ensure(OTHER, words) for builder, words in zip(builders, heard, strict=True)]
    assert len(set(await asyncio.gather(*wanted))) == 1
    assert sum(any("building" in words for words in one.words) for one in heard) == 1


async def test_what_a_killed_build_left_is_built_anew(make: Make) -> None:
    place = await make().ensure(OTHER, Heard())
    (place / "environment.json").unlink()
    (module,) = place.glob("lib/*/site-packages/anvil.py")
    module.unlink()
    module.write_text("VERSION = 'half'")
    assert await make().ensure(OTHER, Heard()) == place
    assert version_of(place, "anvil") == "1.0"


async def test_a_build_that_is_given_up_ends_its_installer_and_lets_the_next_one_build(
    make: Make, installer: Installer, tmp_path: Path
) -> None:
    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await released.wait()
        writer.close()

    asked, released = asyncio.Event(), asyncio.Event()
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    silent_index = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/simple"
    folder, clock = tmp_path / "environments", SystemClock()
    waiting = UvEnvironments(folder, replace(installer, index=silent_index), clock=clock, keep_s=DAY_S)
    build = asyncio.create_task(waiting.ensure(OTHER, Heard()), name="build")
    await asked.wait()
    assert [one.name() for one in installers()] == ["uv"]
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    assert installers() == []
    assert not any(one.is_dir() and one.name != "cache" for one in folder.iterdir())
    assert version_of(await make().ensure(OTHER, Heard()), "anvil") == "1.0"
    released.set()
    server.close()


@pytest.mark.parametrize(
    ("requirement", "said"), [("hammer==3", "no version of hammer==3"), ("tongs", "tongs"), ("hammer<2,>2", "hammer")]
)
async def test_what_cannot_be_had_is_said_by_the_installer_and_leaves_nothing(
    make: Make, tmp_path: Path, requirement: str, said: str
) -> None:
    with pytest.raises(MeshError, match="cannot be installed") as refused:
        await make().ensure(Environment("python", ("anvil", requirement)), Heard())
    assert refused.value.reason is Reason.ENVIRONMENT_FAILED
    assert said in refused.value.message
    assert [one.name for one in (tmp_path / "environments").iterdir() if one.is_dir() and "cache" not in one.name] == []


async def test_a_source_distribution_is_not_taken_because_building_it_runs_code(make: Make, tmp_path: Path) -> None:
    (tmp_path / "wheels" / "tongs-1.0.tar.gz").write_bytes(b"whatever")
    with pytest.raises(MeshError, match="tongs"):
        await make().ensure(Environment("python", ("tongs",)), Heard())


async def test_why_requirements_contradict_each_other_is_said_however_long_uv_explains_it(
    make: Make, tmp_path: Path
) -> None:
    for number in range(20):
        wheel(tmp_path / "wheels", f"link{number}", "1.0", needs=f"link{number + 1}==1.0")
    wheel(tmp_path / "wheels", "link20", "1.0", needs="hammer>9")
    with pytest.raises(MeshError, match="No solution found") as refused:
        await make().ensure(Environment("python", ("link0",)), Heard())
    assert refused.value.reason is Reason.ENVIRONMENT_FAILED


async def test_an_index_that_does_not_answer_is_tried_again(tmp_path: Path, installer: Installer) -> None:
    away = Installer(installer.uv, installer.python, installer.locks, "http://127.0.0.1:9/simple", installer.links)
    environments = UvEnvironments(tmp_path / "environments", away, clock=SystemClock(), keep_s=DAY_S)
    with pytest.raises(MeshError) as refused:
        await environments.ensure(Environment("python", ("anvil", "tongs")), Heard())
    assert refused.value.reason is Reason.DEPENDENCY_UNAVAILABLE


async def test_what_nothing_uses_goes_once_it_is_old(make: Make) -> None:
    environments = make()
    old, young, used = [
        await environments.ensure(Environment("python", (one,)), Heard()) for one in ("anvil", "hammer", "hammer==1.0")
    ]
    for place in (old, used):
        os.utime(place / "environment.json", (0, 0))
    assert await environments.prune({used}) == [old.name]
    assert (old.exists(), young.exists(), used.exists()) == (False, True, True)
    assert await environments.prune(set()) == [used.name]


async def test_what_another_deployer_uses_stays_and_what_was_left_half_built_goes(make: Make, tmp_path: Path) -> None:
    mine, others = make(), make()
    place = await others.ensure(OTHER, Heard())
    os.utime(place / "environment.json", (0, 0))
    await others.touch([place])
    half = tmp_path / "environments" / "python-half"
    half.mkdir()
    os.utime(half, (0, 0))
    half.with_name("python-half.lock").touch()
    assert await mine.prune(set()) == ["python-half"]
    assert (place.exists(), half.exists()) == (True, False)
