"""Images hold what their processes import, all of it and nothing that they do not need, and start as nobody."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

from services.supervisor.parts.triton import triton_part
from tests.support.dockerfiles import DOCKER, ROOT, Imports, Stage, imports_of, pins, stages
from tests.support.helm import VARIANTS, containers, rendered

DOCKERFILES = tuple(sorted(DOCKER.glob("*.Dockerfile")))
_UNNAMED = {"psycopg", "tzdata"}
"""What is needed and imported by nobody: SQLAlchemy finds its driver by the URL, zoneinfo its zones where the system
has none."""


@dataclass(frozen=True, slots=True)
class Image:
    """A target of a Dockerfile and the processes that are started in it."""

    name: str
    dockerfile: Path
    modules: tuple[str, ...]
    scripts: tuple[Path, ...] = ()

    @property
    def lock(self) -> Path:
        """The lock file of its Python."""
        return ROOT / "requirements" / "images" / f"{self.name}.lock"

    @property
    def build(self) -> Stage:
        """The stage that its files are put together in."""
        [found] = [one for one in stages(self.dockerfile) if one.name == "build"]
        return found

    @property
    def imports(self) -> Imports:
        """What its processes import."""
        return imports_of(self.modules, self.scripts)


def _there(*modules: str) -> tuple[str, ...]:
    return tuple(one for one in modules if (ROOT / (one.replace(".", "/") + ".py")).is_file())


IMAGES = (
    Image(
        "services",
        DOCKER / "services.Dockerfile",
        (
            *(f"services.{one}.__main__" for one in ("batch", "limiter", "monitor", "registry", "router")),
            "services.registry.operator_key",
            *_there("services.operator.__main__"),
        ),
    ),
    Image(
        "gateway",
        DOCKER / "gateway.Dockerfile",
        # The bridge, in C, imports the last two.
        (
            "services.gateway.__main__",
            "services.batcher.__main__",
            "services.batcher.app",
            "services.batcher.bridge.host",
        ),
        (DOCKER / "gateway.py", DOCKER / "probe.py"),
    ),
    Image(
        "deployer",
        DOCKER / "serving.Dockerfile",
        ("services.deployer.__main__", *_there("services.deployer.fetch")),
    ),
)
_EACH_IMAGE = pytest.mark.parametrize("image", IMAGES, ids=[one.name for one in IMAGES])
_EACH_FILE = pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=[one.stem for one in DOCKERFILES])


def _copied(image: Image, file: Path) -> bool:
    """Whether a file of this project is in the image."""
    within = str(file.relative_to(ROOT))
    if within.startswith(".build/xds/"):
        return any("tools.xds_stubs" in run for run in image.build.of("RUN"))
    return any(within == source or within.startswith(source + "/") for source, _ in image.build.copies())


@_EACH_IMAGE
def test_every_file_that_is_imported_is_copied(image: Image) -> None:
    imports = image.imports
    assert len(imports.files) > 30
    assert sorted(str(one.relative_to(ROOT)) for one in imports.files if not _copied(image, one)) == []
    assert imports.unknown == set()


@_EACH_IMAGE
def test_every_package_that_is_imported_is_in_the_lock(image: Image) -> None:
    missing = {package: module for package, module in image.imports.packages.items() if package not in pins(image.lock)}
    assert missing == {}, f"name them in {image.lock.with_suffix('.in')} and run `make lock`"


@_EACH_IMAGE
def test_nothing_is_asked_for_that_nobody_needs(image: Image) -> None:
    asked = re.findall(r"^([a-z0-9-]+)", image.lock.with_suffix(".in").read_text(), re.MULTILINE)
    needed = set(image.imports.packages) | _UNNAMED
    assert sorted(set(asked) - needed) == []


@_EACH_IMAGE
def test_a_service_with_a_database_has_its_driver(image: Image) -> None:
    texts = [one.read_text() for one in image.imports.files if one.name == "settings.py"]
    if any("database_url" in text for text in texts):
        assert {"psycopg", "psycopg-binary", "greenlet"} <= set(pins(image.lock))


@pytest.mark.parametrize("lock", sorted((ROOT / "requirements" / "images").glob("*.lock")), ids=lambda one: one.stem)
def test_images_hold_the_versions_that_were_tested(lock: Path) -> None:
    tested = pins(ROOT / "requirements" / "dev.lock")
    differing = {name: found for name, found in pins(lock).items() if not found <= tested.get(name, found)}
    assert differing == {}


@_EACH_IMAGE
def test_services_import_from_what_is_copied_alone(image: Image, tmp_path: Path) -> None:
    """What the closure above says, by Python itself: a tree of the copied files, and the packages from here."""
    app = tmp_path / "app"
    for source, target in image.build.copies():
        place = target.removeprefix("/opt/infermesh/app/")
        if place == target or not place.startswith(("services", "protos")):
            continue
        subprocess.run(["cp", "-r", "--", str(ROOT / source), str(_made(app / place))], check=True)
    modules = [one for one in image.modules if not one.endswith("__main__")]
    modules += [one.replace("__main__", "wiring") for one in image.modules if one.endswith("__main__")]
    modules += [one.replace("__main__", "settings") for one in image.modules if one.endswith("__main__")]
    code = f"""
import importlib, sys
for name in {sorted(set(modules))!r}:
    found = importlib.import_module(name)
    assert found.__file__.startswith({str(app)!r}), found.__file__
strange = [m.__file__ for n, m in sys.modules.items() if n.split(".")[0] in ("services", "infermesh", "inference")
           and getattr(m, "__file__", None) and not m.__file__.startswith({str(app)!r})]
assert not strange, strange
"""
    paths = os.pathsep.join([str(app), str(app / "protos"), str(ROOT / ".build" / "xds" / "python")])
    environment = {"PATH": os.defpath, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def _made(place: Path) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


@_EACH_FILE
def test_hadolint_has_nothing_to_say(dockerfile: Path) -> None:
    linter = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([str(linter), "--no-color", str(dockerfile)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@_EACH_FILE
def test_images_run_as_nobody_on_a_pinned_base(dockerfile: Path) -> None:
    found = stages(dockerfile)
    targets = [one for one in found if one.name != "build"]
    for stage in found:
        if stage.base in {one.name for one in found}:
            continue
        assert stage.base.startswith("python:${PYTHON_TAG}-"), stage.base
        if stage.name != "build":
            assert stage.base.endswith("${PYTHON_DIGEST:+@${PYTHON_DIGEST}}")
    assert "ARG PYTHON_TAG=3.11." in dockerfile.read_text()
    for stage in targets:
        # Inherited where a target is built on another one.
        assert [*stage.of("USER"), "65532:65532"][0] == "65532:65532"
        assert stage.of("ENTRYPOINT")[0].startswith("[")
        assert any("org.opencontainers.image.title" in label for label in stage.of("LABEL"))
    assert targets[0].of("USER") == ["65532:65532"]


@_EACH_FILE
def test_what_is_installed_is_checked_by_its_hash(dockerfile: Path) -> None:
    for stage in stages(dockerfile):
        for run in stage.of("RUN"):
            for command in re.split(r"&&|;", run):
                if re.search(r"\bpip (install|sync)\b", command):
                    assert "--require-hashes" in command, command


def _ignored(path: str) -> bool:
    """As Docker reads .dockerignore: the last line that fits decides, also of what is inside a folder that it names."""
    ignored = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip().lstrip("!")
        if not pattern or pattern.startswith("#"):
            continue
        parents = [path, *(str(one) for one in Path(path).parents)]
        if any(fnmatch(one, pattern) or (pattern.startswith("**/") and fnmatch(one, pattern[3:])) for one in parents):
            ignored = not line.startswith("!")
    return ignored


@_EACH_FILE
def test_what_is_copied_there_is_and_is_sent_to_the_builder(dockerfile: Path) -> None:
    for stage in stages(dockerfile):
        for source, _ in stage.copies():
            assert (ROOT / source).exists(), source
            assert not _ignored(source), source


def test_nothing_secret_or_large_is_sent_to_the_builder() -> None:
    for path in (".git/config", ".data/registry/keys/signing.pem", ".venv/bin/python", "tests/conftest.py", ".build/x"):
        assert _ignored(path), path


def test_the_supervisor_is_in_no_image() -> None:
    """It is of one machine: in a cluster Kubernetes starts, watches and restarts."""
    for dockerfile in DOCKERFILES:
        for stage in stages(dockerfile):
            assert not [source for source, _ in stage.copies() if source in {"services", "services/supervisor"}]


def _started() -> Mapping[str, set[tuple[str, ...]]]:
    """The arguments with which the chart starts each image."""
    found: dict[str, set[tuple[str, ...]]] = {}
    for variant in VARIANTS:
        for one in containers(rendered(variant)):
            image = one.spec["image"].partition("@")[0].rpartition("/")[2].partition(":")[0]
            found.setdefault(image, set()).add(tuple(one.spec.get("args", ())))
    return found


def test_the_chart_starts_what_images_hold() -> None:
    started = _started()
    assert set(started) == {"services", "gateway", "deployer", "triton"}
    modules = {one.name: set(one.modules) for one in IMAGES}
    for name in ("services", "deployer"):
        for (module,) in started[name]:
            if module != "services.operator" or (ROOT / "services" / "operator" / "__main__.py").is_file():
                assert f"{module}.__main__" in modules[name]
    placed = {target for source, target in IMAGES[1].build.copies()}
    assert started["gateway"] == {
        ("/opt/infermesh/bin/gateway.py",),
        ("-m", "services.batcher"),
        ("-m", "services.gateway"),
    }
    assert {"/opt/infermesh/bin/gateway.py", "/opt/infermesh/bin/probe.py"} <= placed


def _flags(arguments: Sequence[str]) -> Mapping[str, str]:
    return {flag: value for flag, _, value in (one.removeprefix("--").partition("=") for one in arguments)}


def test_triton_is_started_as_on_one_machine(tmp_path: Path) -> None:
    """But for where things are, and for how long it has to end."""
    script = (DOCKER / "tritonserver.sh").read_text()
    inside = _flags(re.findall(r"--[a-z][^\s\\]*", script.partition("exec ")[2]))
    part = triton_part(
        http_port=1,
        grpc_port=2,
        metrics_port=3,
        repository=tmp_path / "repository",
        serving_python=ROOT / ".venv-serving" / "bin" / "python",
        work_dir=tmp_path,
        log_path=tmp_path / "log",
    )
    here = _flags(part.argv[1:])
    assert set(inside) == set(here)
    elsewhere = {
        "model-repository",
        "backend-directory",
        "backend-config",
        "exit-timeout-secs",
        "model-load-thread-count",
    }
    for flag in set(here) - elsewhere:
        if not flag.endswith(("-port", "-address")):
            assert inside[flag] == here[flag], flag
    assert inside["model-load-thread-count"] == f'"${{LOAD_THREADS:-{here["model-load-thread-count"]}}}"'


def test_the_deployers_image_has_what_its_settings_name() -> None:
    """The runner, the lock files and the script that quantises, where the defaults find them."""
    placed = dict(IMAGES[2].build.copies())
    assert placed["deploy/triton"] == "/opt/infermesh/app/deploy/triton"
    assert placed["requirements/frameworks"] == "/opt/infermesh/app/requirements/frameworks"
    assert placed["services/deployer"] == "/opt/infermesh/app/services/deployer"
    deployer = stages(DOCKER / "serving.Dockerfile")[-1]
    assert any("INFERMESH_DEPLOYER_SERVING_PYTHON=/opt/serving/bin/python" in one for one in deployer.of("ENV"))


def test_the_bootstrap_in_the_image_is_the_one_of_one_machine() -> None:
    placed = dict(IMAGES[1].build.copies())
    assert placed["deploy/envoy/bootstrap.yaml"] == "/opt/infermesh/envoy/bootstrap.yaml"
    filled = set(re.findall(r"\$\{(\w+)\}", (ROOT / "deploy" / "envoy" / "bootstrap.yaml").read_text()))
    assert filled == {"node_id", "admin_port", "ads_host", "ads_port"}
    script = (DOCKER / "gateway.py").read_text()
    assert all(f"{name}=" in script for name in filled)
