"""Which parts a local mesh has, and what each is told, by the number of batchers."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from services.common.clock import SystemClock
from services.supervisor.parts.part import Part
from services.supervisor.parts.service import service_part
from services.supervisor.ports import BATCHERS_MAX, TRITONS_MAX, MeshPorts, variable_of
from services.supervisor.settings import SupervisorSettings
from services.supervisor.wiring import build_stages

PORTS = MeshPorts()


def parts(folder: Path, batchers: int) -> Mapping[str, Part]:
    settings = SupervisorSettings(data_dir=folder, batchers=batchers)
    found = [part for stage in build_stages(settings, PORTS, clock=SystemClock()) for part in stage]
    assert len({part.name for part in found}) == len(found)
    return {part.name: part for part in found}


@pytest.mark.parametrize("batchers", [1, 3, BATCHERS_MAX])
def test_each_batcher_has_its_own_port_folder_log_and_name_and_the_router_knows_all(
    tmp_path: Path, batchers: int
) -> None:
    mesh = parts(tmp_path, batchers)
    names = ["batcher", *(f"batcher-{place}" for place in range(1, batchers))]
    found = [mesh[name] for name in names]
    assert [name for name in mesh if name.startswith("batcher")] == names
    ports = [PORTS.batcher + place for place in range(batchers)]
    assert [one.env["INFERMESH_BATCHER_PORT"] for one in found] == [str(port) for port in ports]
    assert [one.env["INFERMESH_BATCHER_INSTANCE"] for one in found] == [f"batcher-{n}" for n in range(batchers)]
    for told in ("DATA_DIR", "INSTANCE", "PORT"):
        assert len({one.env[f"INFERMESH_BATCHER_{told}"] for one in found}) == batchers
    assert len({one.log_path for one in found}) == batchers
    addresses = [f"127.0.0.1:{port}" for port in ports]
    assert mesh["router"].env["INFERMESH_ROUTER_BATCHER_ADDRESS"].split(",") == addresses


@pytest.mark.parametrize("tritons", [1, 2, TRITONS_MAX])
def test_each_triton_has_its_own_ports_folder_log_and_shared_memory_and_one_repository_is_everybodys(
    tmp_path: Path, tritons: int
) -> None:
    settings = SupervisorSettings(data_dir=tmp_path, tritons=tritons)
    mesh = {part.name: part for stage in build_stages(settings, PORTS, clock=SystemClock()) for part in stage}
    names = ["triton", *(f"triton-{place}" for place in range(1, tritons))]
    assert [name for name in mesh if name.startswith("triton")] == names
    found = [mesh[name] for name in names]
    ports = [port for one in found for port in one.ports.values()]
    assert len(set(ports)) == 3 * tritons
    assert all(variable_of(purpose) is not None for one in found for purpose in one.ports)
    for own in ("--backend-config", "--backend-directory", "--http-port", "--grpc-port", "--metrics-port"):
        assert len({flag for one in found for flag in one.argv if flag.startswith(own)}) == tritons
    assert len({flag for one in found for flag in one.argv if flag.startswith("--model-repository")}) == 1
    assert len({one.log_path for one in found}) == len({one.cwd for one in found}) == tritons
    told = mesh["deployer"].env
    for kind in ("http", "grpc"):
        addresses = [f"127.0.0.1:{PORTS.of_triton(place, kind)}" for place in range(tritons)]
        assert told[f"INFERMESH_DEPLOYER_TRITON_{kind.upper()}_ADDRESS"].split(",") == addresses
        assert all(
            f"--{kind}-port={address.split(':')[1]}" in one.argv for one, address in zip(found, addresses, strict=True)
        )


def test_a_mesh_without_batchers_of_their_own_carries_one(tmp_path: Path) -> None:
    mesh = parts(tmp_path, 0)
    assert [name for name in mesh if name.startswith("batcher")] == []
    assert mesh["router"].env["INFERMESH_ROUTER_BATCHER_ADDRESS"] == ""
    assert mesh["gateway"].ports["batcher"] == PORTS.batcher


@pytest.mark.parametrize("batchers", [0, 2])
def test_the_gateway_dials_its_keeper_which_is_there_before_it(tmp_path: Path, batchers: int) -> None:
    settings = SupervisorSettings(data_dir=tmp_path, batchers=batchers)
    stages = [[part.name for part in stage] for stage in build_stages(settings, PORTS, clock=SystemClock())]
    [keeper_stage] = [place for place, names in enumerate(stages) if "keeper" in names]
    [gateway_stage] = [place for place, names in enumerate(stages) if "gateway" in names]
    assert keeper_stage < gateway_stage
    bootstrap = (tmp_path / "gateway" / "bootstrap.yaml").read_text()
    assert f"port_value: {PORTS.keeper}" in bootstrap
    assert str(PORTS.router) not in bootstrap
    told = parts(tmp_path, batchers)["keeper"].env
    assert told["INFERMESH_GATEWAY_ROUTER_ADDRESS"] == f"127.0.0.1:{PORTS.router}"
    assert told["INFERMESH_GATEWAY_PORT"] == str(PORTS.keeper)


@pytest.mark.parametrize("batchers", [0, 2])
def test_only_what_predictions_pass_ends_the_mesh_when_it_keeps_dying(tmp_path: Path, batchers: int) -> None:
    vital = {name for name, part in parts(tmp_path, batchers).items() if part.vital}
    assert vital == {"gateway", "triton", *(("batcher", "batcher-1") if batchers else ())}


def test_a_kept_configuration_is_for_the_ports_and_the_batchers_that_it_was_made_for(tmp_path: Path) -> None:
    def layout(batchers: int, ports: MeshPorts) -> str:
        return _layout(SupervisorSettings(data_dir=tmp_path, batchers=batchers), ports)

    assert layout(0, PORTS) == layout(0, MeshPorts())
    assert len({layout(0, PORTS), layout(1, PORTS), layout(0, MeshPorts(gateway=9000))}) == 3


def test_a_configuration_that_asked_nobody_for_a_key_is_not_used_where_keys_are_asked_for(tmp_path: Path) -> None:
    known = {
        _layout(SupervisorSettings(data_dir=tmp_path, auth=auth, tls=tls), PORTS)
        for auth in ("on", "off")
        for tls in ("off", "local")
    }
    assert len(known) == 4


def test_a_limiter_runs_where_it_is_asked_for_and_the_router_knows_it(tmp_path: Path) -> None:
    assert "limiter" not in parts(tmp_path, 0)
    settings = SupervisorSettings(data_dir=tmp_path, limiter="on")
    stages = build_stages(settings, PORTS, clock=SystemClock())
    found = {part.name: part for stage in stages for part in stage}
    assert found["router"].env["INFERMESH_ROUTER_LIMITER_ADDRESS"] == f"127.0.0.1:{PORTS.limiter}"
    assert found["limiter"].env["INFERMESH_LIMITER_REDIS_URL"].endswith(f":{PORTS.redis_cache}/0")
    assert "INFERMESH_LIMITER_DATABASE_URL" not in found["limiter"].env
    assert not found["limiter"].vital, "predictions go on without it"


def _layout(settings: SupervisorSettings, ports: MeshPorts) -> str:
    stages = build_stages(settings, ports, clock=SystemClock())
    [keeper] = [part for stage in stages for part in stage if part.name == "keeper"]
    return keeper.env["INFERMESH_GATEWAY_LAYOUT"]


def test_the_router_is_told_whether_callers_need_keys_and_of_the_certificate(tmp_path: Path) -> None:
    def router(**settings: str) -> Mapping[str, str]:
        made = SupervisorSettings(data_dir=tmp_path, **settings)  # type: ignore[arg-type]
        stages = build_stages(made, PORTS, clock=SystemClock())
        [part] = [part for stage in stages for part in stage if part.name == "router"]
        return part.env

    assert router(auth="on")["INFERMESH_ROUTER_AUTHENTICATION"] == "True"
    assert router(auth="off")["INFERMESH_ROUTER_AUTHENTICATION"] == "False"
    assert "INFERMESH_ROUTER_TLS_CERTIFICATE" not in router()
    told = router(tls="local")
    certificate, key = (Path(told[f"INFERMESH_ROUTER_TLS_{name}"]) for name in ("CERTIFICATE", "PRIVATE_KEY"))
    assert certificate.read_bytes().startswith(b"-----BEGIN CERTIFICATE-----")
    assert key.stat().st_mode & 0o777 == 0o600
    # The same one again: clients that trust it need nothing new.
    before = certificate.read_bytes()
    assert router(tls="local")["INFERMESH_ROUTER_TLS_CERTIFICATE"] == str(certificate)
    assert certificate.read_bytes() == before
    own = tmp_path / "own"
    own.mkdir()
    with pytest.raises(ValidationError, match=r"tls\.crt is not there"):
        router(tls=str(own))
    for name in ("tls.crt", "tls.key"):
        (own / name).touch()
    assert router(tls=str(own))["INFERMESH_ROUTER_TLS_PRIVATE_KEY"] == str(own / "tls.key")


@pytest.mark.parametrize("batchers", [0, 1, 3])
def test_jobs_predict_through_the_gateway_and_so_with_all_batchers(tmp_path: Path, batchers: int) -> None:
    told = parts(tmp_path, batchers)["batch"].env["INFERMESH_BATCH_BATCHER_ADDRESS"]
    assert told == f"127.0.0.1:{PORTS.gateway}"


@pytest.mark.parametrize("batchers", [0, 2])
def test_a_services_own_settings_reach_it_and_what_the_mesh_settles_holds(
    tmp_path: Path, batchers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFERMESH_BATCHER_FEAST_URL", "http://127.0.0.1:6566")
    monkeypatch.setenv("INFERMESH_BATCHER_PORT", "1")
    monkeypatch.setenv("INFERMESH_BATCH_LEASE_S", "7")
    mesh = parts(tmp_path, batchers)
    batcher = mesh["batcher" if batchers else "gateway"].env
    assert batcher["INFERMESH_BATCHER_FEAST_URL"] == "http://127.0.0.1:6566"
    assert batcher["INFERMESH_BATCHER_PORT"] == str(PORTS.batcher)
    assert "INFERMESH_BATCH_LEASE_S" not in batcher
    assert mesh["batch"].env["INFERMESH_BATCH_LEASE_S"] == "7"
    assert not any("FEAST" in variable for variable in mesh["router"].env)


@pytest.mark.parametrize("batchers", [0, 2])
def test_features_and_kept_predictions_are_in_servers_of_their_own(tmp_path: Path, batchers: int) -> None:
    mesh = parts(tmp_path, batchers)
    told = mesh["batcher" if batchers else "gateway"].env
    assert told["INFERMESH_BATCHER_FEATURE_REDIS_URL"] == f"redis://127.0.0.1:{PORTS.redis}/0"
    assert told["INFERMESH_BATCHER_REDIS_URL"] == f"redis://127.0.0.1:{PORTS.redis_cache}/0"
    assert mesh["redis"].argv[-1] == "noeviction"
    assert mesh["redis-cache"].argv[-1] == "allkeys-lru"
    for name, purpose in (("redis", "redis"), ("redis-cache", "redis_cache")):
        assert list(mesh[name].ports) == [purpose]
        assert variable_of(purpose) == f"INFERMESH_PORT_{purpose.upper()}"


@pytest.mark.parametrize("batchers", [-1, BATCHERS_MAX + 1])
def test_there_is_a_bound(batchers: int) -> None:
    with pytest.raises(ValidationError):
        SupervisorSettings(batchers=batchers)


@pytest.mark.parametrize("tritons", [0, TRITONS_MAX + 1])
def test_there_is_one_for_tritons_too(tritons: int) -> None:
    with pytest.raises(ValidationError):
        SupervisorSettings(tritons=tritons)


def test_every_port_of_a_batcher_has_a_variable_that_moves_it(tmp_path: Path) -> None:
    mesh = parts(tmp_path, BATCHERS_MAX)
    purposes = [purpose for name, part in mesh.items() if name.startswith("batcher") for purpose in part.ports]
    assert len(purposes) == BATCHERS_MAX
    assert [variable_of(purpose) for purpose in purposes] == [
        "INFERMESH_PORT_BATCHER",
        *(f"INFERMESH_PORT_BATCHER_{place}" for place in range(1, BATCHERS_MAX)),
    ]


def test_what_several_services_are_told_reaches_them_as_a_path_that_holds_in_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INFERMESH_EXTERNAL_CA", "authorities.pem")
    monkeypatch.setenv("INFERMESH_EXTERNAL_CREDENTIALS", "/srv/tokens")
    for name in ("deployer", "batcher"):
        part = service_part(name, ports={name: 1}, settings={}, work_dir=tmp_path / "work", log_path=tmp_path / "log")
        assert part.env["INFERMESH_EXTERNAL_CA"] == str(tmp_path / "authorities.pem")
        assert part.env["INFERMESH_EXTERNAL_CREDENTIALS"] == "/srv/tokens"


def test_credentials_of_buckets_reach_those_alone_that_meet_buckets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"AWS_ACCESS_KEY_ID": "key", "GOOGLE_APPLICATION_CREDENTIALS": "/key.json", "STORAGE_EMULATOR_HOST": "host"}
    for variable, value in told.items():
        monkeypatch.setenv(variable, value)
    for name, expected in (("registry", told), ("batch", told), ("router", {}), ("batcher", {})):
        part = service_part(name, ports={name: 1}, settings={}, work_dir=tmp_path / "work", log_path=tmp_path / "log")
        assert {variable: value for variable, value in part.env.items() if variable in told} == expected
