"""The key by which a team's replicas fetch: from a real registry into a real API server, by the rights of the chart."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from infermesh.registry.v1 import team_service_pb2
from pydantic import SecretStr

from services.common.body import text
from services.common.clock import SystemClock
from services.common.errors import MeshError
from services.operator.adapters.kinds import KINDS
from services.operator.domain.fetch_key import FetchKey, key_in
from services.operator.domain.manifests.team import Team
from services.operator.domain.names import FETCH_SECRET
from services.operator.settings import OperatorSettings
from services.operator.wiring import build
from services.registry.settings import RegistrySettings
from tests.integration.operator.conftest import Ground
from tests.support.helm import of_kind, rendered
from tests.support.operator_kube import Kube, kube
from tests.support.registry_driving import Registry
from tests.support.registry_team import INSIDE, make_team, teams_by
from tests.support.waiting import eventually


@pytest.fixture
async def registry(database_url: str, tmp_path: Path) -> AsyncIterator[Registry]:
    settings = RegistrySettings(
        port=0,
        metrics_port=0,
        database_url=SecretStr(database_url),
        data_dir=tmp_path / "registry",
        database_period_s=0.1,
    )
    running = Registry(settings)
    await running.start()
    yield running
    await running.stop()


@dataclass
class Watched:
    """A team's Secret, as the cluster has it."""

    kube: Kube
    team: Team

    async def key(self) -> FetchKey | None:
        return key_in(await self.kube.get("Secret", self.team.namespace, FETCH_SECRET), self.team)

    async def another(self, than: str) -> FetchKey:
        """The key once it is another one."""

        async def looks() -> FetchKey | None:
            key = await self.key()
            return key if key is not None and key.key_id != than else None

        found = await eventually(looks, what=f"another key than {than!r}")
        assert isinstance(found, FetchKey)
        return found


def claims(key: FetchKey) -> Mapping[str, object]:
    """What the key says of itself."""
    part = key.secret.split(".")[1]
    said = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    assert isinstance(said, dict)
    return said


@asynccontextmanager
async def operator(ground: Ground, kubeconfig: Path, registry: Registry, **more: object) -> AsyncIterator[None]:
    """A whole one, with a real registry, that looks after the team's namespace alone."""
    settings = OperatorSettings.model_validate(
        {
            "port": 0,
            "metrics_port": 0,
            "kubeconfig": kubeconfig,
            "registry_address": registry.address,
            "namespaces": f"{ground.namespace}-team",
            "lease_namespace": ground.namespace,
            "lease_lasts_s": 3,
            "teams_period_s": 0.2,
            **more,
        }
    )
    lifecycle = build(settings, clock=SystemClock()).lifecycle
    await lifecycle.start()
    try:
        yield
    finally:
        await lifecycle.stop()


async def test_a_key_is_made_renewed_and_made_anew_and_the_next_operator_finds_it(
    ground: Ground, registry: Registry, tmp_path: Path
) -> None:
    assert registry.channel is not None
    namespace = f"{ground.namespace}-team"
    await make_team(registry.channel, "vision", namespace=namespace)
    await make_team(registry.channel, "elsewhere", namespace=f"{namespace}-not")
    seen = Watched(ground.kube, Team("vision", namespace))
    authorities = tmp_path / "ca.crt"
    authorities.write_text("PEM of a gateway's authority")
    teams = teams_by(registry.channel, INSIDE)
    try:
        async with operator(ground, ground.kubeconfig, registry, gateway_tls=str(authorities)):
            first = await seen.another("")
            said = claims(first)
            assert (said["team"], said["role"], said["scope"]) == ("vision", "viewer", "models.read")
            assert said["jti"] == first.key_id
            assert said["exp"] == first.ends_at.timestamp()
            assert timedelta(days=6) < first.ends_at - SystemClock().now() <= timedelta(days=7)
            body = await ground.kube.get("Secret", namespace, FETCH_SECRET)
            assert base64.b64decode(text(body, "data", "ca.crt")) == authorities.read_bytes()
            assert text(body, "metadata", "labels", "app.kubernetes.io/managed-by") == "infermesh-operator"
            await ground.kube.delete("Secret", namespace, FETCH_SECRET)
            second = await seen.another(first.key_id)
            await teams.RevokeApiKey(team_service_pb2.RevokeApiKeyRequest(team_name="vision", key_id=second.key_id))
            third = await seen.another(second.key_id)
            await ground.kube.patch("Secret", namespace, FETCH_SECRET, {"data": {"api-key": "bm9uZQ=="}})
            fourth = await seen.another(third.key_id)
            authorities.write_text("renewed")

            async def is_renewed() -> bool:
                found = await ground.kube.get("Secret", namespace, FETCH_SECRET)
                return base64.b64decode(text(found, "data", "ca.crt")) == b"renewed"

            await eventually(is_renewed, what="the authorities are renewed")
            assert await seen.key() == fourth, "by the same key"
        # The next one takes it over; one that wants shorter lives renews it by and by.
        async with operator(ground, ground.kubeconfig, registry, gateway_tls=str(authorities), fetch_key_days=20):
            fifth = await seen.another(fourth.key_id)
            assert fifth.ends_at - SystemClock().now() > timedelta(days=19)
        assert await ground.kube.get("Namespace", "", f"{namespace}-not") is None
    finally:
        await ground.kube.delete("Namespace", "", namespace)


async def test_the_rights_that_the_chart_gives_suffice_and_are_for_one_secret(
    ground: Ground, registry: Registry, tmp_path: Path
) -> None:
    assert registry.channel is not None
    namespace = f"{ground.namespace}-team"
    await make_team(registry.channel, "vision", namespace=namespace)
    seen = Watched(ground.kube, Team("vision", namespace))
    account = await _account(ground, tmp_path)
    try:
        async with operator(ground, account, registry):
            first = await seen.another("")
            await ground.kube.delete("Secret", namespace, FETCH_SECRET)
            await seen.another(first.key_id)
        async with kube(account) as restricted:
            other = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "other", "namespace": namespace}}
            with pytest.raises(MeshError, match="cannot patch resource"):
                await restricted.apply(other)
            path = KINDS["Secret"].path(namespace)
            with pytest.raises(MeshError, match="cannot create resource"):
                await restricted.server.call("POST", path, kind="Secret", body={**other, "type": "Opaque"})
            with pytest.raises(MeshError, match="cannot list resource"):
                await restricted.list("Secret", namespace)
            with pytest.raises(MeshError, match="cannot get resource"):
                await restricted.get("Secret", ground.namespace, "other")
    finally:
        await ground.kube.delete("Namespace", "", namespace)
        for kind in ("clusterrolebindings", "clusterroles"):
            path = f"/apis/rbac.authorization.k8s.io/v1/{kind}/{ground.namespace}"
            await ground.kube.server.call("DELETE", path, kind="ClusterRole")


async def _account(ground: Ground, folder: Path) -> Path:
    """A kubeconfig of a service account with the rights of the chart's operator."""
    [role] = [
        one
        for one in of_kind(rendered("minimal"), "ClusterRole")
        if one["metadata"]["name"] == "infermesh-operator-mesh"
    ]
    leases = of_kind(rendered("minimal"), "Role")[0]["rules"]
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": ground.namespace}}
    bound = {"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ground.namespace}}
    who = [{"kind": "ServiceAccount", "name": "operator", "namespace": ground.namespace}]
    for kind, body in (
        ("ClusterRole", {"rules": [*role["rules"], *leases]}),
        ("ClusterRoleBinding", {**bound, "subjects": who}),
    ):
        path = f"/apis/rbac.authorization.k8s.io/v1/{kind.lower()}s"
        await ground.kube.server.call("POST", path, kind=kind, body={**rbac, "kind": kind, **body})
    account = {"apiVersion": "v1", "kind": "ServiceAccount"}
    await ground.kube.apply({**account, "metadata": {"name": "operator", "namespace": ground.namespace}})
    path = f"{KINDS['ServiceAccount'].path(ground.namespace, 'operator')}/token"
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    token = text(await ground.kube.server.call("POST", path, kind="TokenRequest", body=asked), "status", "token")
    config = yaml.safe_load(await asyncio.to_thread(ground.kubeconfig.read_text))
    config["users"] = [{"name": user["name"], "user": {"token": token}} for user in config["users"]]
    made = folder / "account"
    await asyncio.to_thread(made.write_text, yaml.safe_dump(config))
    return made
