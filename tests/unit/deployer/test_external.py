"""What a wish may say of servers that somebody else runs, and how such a deployment is admitted."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.access.book import AccessBook, TeamTerms
from services.common.access.decide import Standing
from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec
from services.common.signals import Signal
from services.deployer.adapters.external import ExternalModelServer
from services.deployer.domain.catalog import published
from services.deployer.domain.checks import check_wish
from services.deployer.domain.deployment import (
    Autoscaling,
    Deployment,
    NewDeployment,
    Resources,
    ServingOptions,
    Wish,
)
from services.deployer.domain.external import ExternalBackend, check_hosts, check_stated, fingerprint, violations_of
from services.deployer.engines.deployments import Deployments
from services.deployer.engines.fleet import Fleet
from tests.support.clock import FakeClock
from tests.support.deployer_external import Outside
from tests.support.deployer_fakes import DIGITS_SCHEMA, FakeVersions, admission, recipe
from tests.support.deployer_store import MemoryStore
from tests.unit.deployer.test_deployments import told

BACKEND = ExternalBackend("oip-grpc", ("10.0.0.7:8081", "models.example:9000", "[::1]:1"))


def wrong(backend: ExternalBackend) -> dict[str, str]:
    return {violation.field: violation.description for violation in violations_of(backend)}


def test_a_sound_one_is_taken() -> None:
    assert wrong(BACKEND) == {}
    for protocol, addresses in (
        ("oip-grpc", ("grpcs://10.0.0.7:8081", "grpcs://[::1]:1")),
        ("oip-rest", ("https://models.example:443", "https://b:1")),
    ):
        assert wrong(ExternalBackend(protocol, addresses, credentials="Token_1.new")) == {}
    assert wrong(ExternalBackend("oip-grpc", ("grpcs://a:1", "b:1"))) == {}
    check_wish(Wish(external=BACKEND), local_replicas_max=1)


@pytest.mark.parametrize(
    ("changed", "field", "words"),
    [
        ({"protocol": "thrift"}, "protocol", "one of oip-grpc, oip-rest, tensorflow-grpc, tensorflow-rest, torchserve"),
        ({"addresses": ()}, "addresses", "1 to 64 addresses"),
        ({"addresses": tuple(f"h:{port}" for port in range(1, 66))}, "addresses", "1 to 64"),
        ({"addresses": ("a:1", "a:1")}, "addresses", "each address once"),
        ({"addresses": ("http://a:1",)}, "addresses[0]", "host:port"),
        ({"addresses": ("a:1/path",)}, "addresses[0]", "host:port"),
        ({"addresses": ("https://a:1",)}, "addresses[0]", "with oip-grpc, host:port, or grpcs://host:port for TLS"),
        ({"protocol": "torchserve", "addresses": ("grpcs://a:1",)}, "addresses[0]", "or https://host:port for TLS"),
        ({"addresses": ("grpcs://user@a:1",)}, "addresses[0]", "host:port"),
        ({"addresses": ("a:1", "grpcs://a:1")}, "addresses", "each address once"),
        ({"credentials": "token"}, "credentials", "empty unless every address is with TLS"),
        ({"addresses": ("grpcs://a:1", "b:1"), "credentials": "token"}, "credentials", "every address is with TLS"),
        ({"addresses": ("grpcs://a:1",), "credentials": "../fraud/token"}, "credentials", "at most 63 of letters"),
        ({"addresses": ("a:70000",)}, "addresses[0]", "host:port"),
        ({"addresses": ("a:1\r\nX: y",)}, "addresses[0]", "host:port"),
        ({"addresses": ("a",)}, "addresses[0]", "host:port"),
        ({"server_model_name": "x\ny"}, "server_model_name", "printable"),
        ({"signature_name": "s"}, "signature_name", "only TensorFlow Serving has signatures"),
        ({"schema": ModelSchema()}, "schema", "at least one input"),
    ],
)
def test_each_fault_names_its_field(changed: dict[str, object], field: str, words: str) -> None:
    found = wrong(replace(BACKEND, **changed))  # type: ignore[arg-type]
    assert words in found[f"external_backend.{field}"]


@pytest.mark.parametrize(
    "wish",
    [
        Wish(resources=Resources(replicas=2)),
        Wish(resources=Resources(replicas=0)),
        Wish(resources=Resources(cpu="1")),
        Wish(autoscaling=Autoscaling(enabled=True, min_replicas=0)),
        Wish(serving=ServingOptions(precision="int8")),
        Wish(serving=ServingOptions(instances=2)),
        Wish(serving=ServingOptions(threads=2)),
    ],
)
def test_there_is_nothing_to_size_or_to_scale(wish: Wish) -> None:
    with pytest.raises(MeshError, match="their owner's to size and to scale") as refused:
        check_wish(replace(wish, external=BACKEND), local_replicas_max=16)
    assert refused.value.reason is Reason.INVALID_FIELD


def test_teams_name_the_hosts_that_they_were_allowed() -> None:
    check_hosts(ExternalBackend("torchserve", ("a.ml.example:1", "10.1.2.3:4")), ("*.ML.example", "10.1.*"))
    by_tls = ExternalBackend("torchserve", ("https://a.ml.example:1", "https://10.1.2.3:4"))
    check_hosts(by_tls, ("*.ML.example", "10.1.*"))
    for allowed in ((), ("*.ml.example",)):
        with pytest.raises(MeshError, match=r"names 'ml\.example\.evil'"):
            check_hosts(ExternalBackend("torchserve", ("https://ml.example.evil:1",)), allowed)
        with pytest.raises(MeshError, match="INFERMESH_DEPLOYER_EXTERNAL_HOSTS") as refused:
            check_hosts(ExternalBackend("torchserve", ("a.ml.example:1", "ml.example.evil:1")), allowed)
        assert refused.value.reason is Reason.PERMISSION_DENIED


specs = st.builds(
    TensorSpec,
    st.sampled_from(("a", "b", "c")),
    st.sampled_from((DataType.FP32, DataType.INT64)),
    st.lists(st.sampled_from((-1, 1, 3)), max_size=2).map(tuple),
)
sides = st.lists(specs, min_size=1, max_size=3, unique_by=lambda spec: spec.name).map(tuple)


@given(sides, sides, sides, sides)
def test_a_server_fits_itself_and_whatever_asks_for_less(
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    other_inputs: tuple[TensorSpec, ...],
    other_outputs: tuple[TensorSpec, ...],
) -> None:
    stated = ModelSchema(inputs, outputs)
    check_stated(stated, ModelSchema(inputs, outputs[:1]), address="a:1")
    wanted = ModelSchema(other_inputs, other_outputs)
    fits = True
    try:
        check_stated(stated, wanted, address="a:1")
    except MeshError:
        fits = False
    if fits:
        assert {spec.name: spec.data_type for spec in inputs} == {spec.name: spec.data_type for spec in other_inputs}
        assert {(one.name, one.data_type) for one in other_outputs} <= {(one.name, one.data_type) for one in outputs}


def test_a_proof_is_of_model_and_schema_whatever_the_addresses() -> None:
    base = fingerprint(BACKEND, DIGITS_SCHEMA)
    assert fingerprint(replace(BACKEND, addresses=("z:1",)), DIGITS_SCHEMA) == base
    others = (
        fingerprint(replace(BACKEND, server_model_version="2"), DIGITS_SCHEMA),
        fingerprint(replace(BACKEND, protocol="oip-rest"), DIGITS_SCHEMA),
        fingerprint(BACKEND, ModelSchema(DIGITS_SCHEMA.inputs, DIGITS_SCHEMA.outputs[:1])),
        fingerprint(replace(BACKEND, credentials="token"), DIGITS_SCHEMA),
    )
    assert len({base, *others}) == 5


class World:
    """Who admits deployments, with one registered version, v1.0.0 of digits, whose team is `team`."""

    def __init__(self, book: AccessBook | None = None, *, team: str = "", hosts: tuple[str, ...] = ()) -> None:
        self.outside = Outside()
        self.store = MemoryStore(FakeClock())
        versions = FakeVersions({("digits", "v1.0.0"): recipe(team=team)})
        self.deployments = Deployments(
            store=self.store,
            admission=admission(self.store, versions, book, open_external=self.outside, external_hosts=hosts),
            clock=FakeClock(),
            changed=Signal(),
            drain_wait_s=0,
        )

    async def create(self, backend: ExternalBackend, version: str = "v2.0.0", *, any_host: bool = True) -> Deployment:
        new = NewDeployment("digits", version, "main", Wish(external=backend))
        return await self.deployments.create(new, any_host=any_host)


AT = ExternalBackend("oip-rest", ("a:1",))


async def test_a_registered_version_is_the_registrys_without_its_artifact() -> None:
    made = await World().create(AT, "v1.0.0")
    assert (made.recipe.schema, made.recipe.mapping) == (DIGITS_SCHEMA, recipe().mapping)
    assert (made.recipe.artifact_path, made.recipe.artifact_digest) == ("", "")
    assert made.replicas == 1


async def test_a_version_that_is_not_registered_is_what_the_server_states() -> None:
    book = told(TeamTerms("vision"), digits=Standing("vision"))
    made = await World(book).create(AT)
    assert (made.recipe.schema, made.recipe.mapping, made.new.team) == (DIGITS_SCHEMA, PredictionMapping(), "vision")


async def test_a_schema_may_be_stated_where_nobody_else_does() -> None:
    world = World()
    world.outside.at("a:1").stated = None
    with pytest.raises(MeshError, match=r"state it in external_backend\.schema, or deploy a registered version") as no:
        await world.create(AT)
    assert no.value.reason is Reason.SCHEMA_REQUIRED
    made = await world.create(replace(AT, schema=DIGITS_SCHEMA))
    assert made.recipe.schema == DIGITS_SCHEMA
    with pytest.raises(MeshError, match="the version is registered with its own schema"):
        await world.create(replace(AT, schema=DIGITS_SCHEMA), "v1.0.0")


async def test_a_server_that_does_not_answer_says_no_schema() -> None:
    world = World()
    world.outside.at("a:1").up = False
    with pytest.raises(MeshError) as away:
        await world.create(AT)
    assert away.value.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert list(await world.store.every()) == []
    await world.create(AT, "v1.0.0")


async def test_a_team_that_requires_signatures_has_none_of_them() -> None:
    book = told(TeamTerms("vision", require_signature=True), digits=Standing("vision"))
    for version in ("v1.0.0", "v2.0.0"):
        with pytest.raises(MeshError, match="cannot be verified") as refused:
            await World(book, team="vision").create(AT, version)
        assert refused.value.reason is Reason.SIGNATURE_REQUIRED


async def test_a_quota_does_not_count_what_others_run() -> None:
    book = told(TeamTerms("vision", cpu="1", memory="1Gi"), digits=Standing("vision"))
    assert (await World(book, team="vision").create(AT, "v1.0.0")).new.team == "vision"


async def test_hosts_are_asked_of_teams_alone_and_of_every_change() -> None:
    world = World(hosts=("a",))
    await world.create(AT, any_host=False)

    def moved(current: Deployment) -> Wish:
        assert current.wish.external is not None
        return replace(current.wish, external=replace(current.wish.external, addresses=("b:1",)))

    with pytest.raises(MeshError) as refused:
        await world.deployments.update("digits", "main", etag="", change=moved, any_host=False)
    assert refused.value.reason is Reason.PERMISSION_DENIED
    changed = await world.deployments.update("digits", "main", etag="", change=moved)
    assert changed.wish.external == replace(AT, addresses=("b:1",))


async def test_a_version_stays_with_its_kind_of_server() -> None:
    world = World()
    await world.create(AT, "v1.0.0")
    with pytest.raises(MeshError, match="unless the version changes too"):
        await world.deployments.update("digits", "main", etag="", change=lambda _: Wish())
    rolled = await world.deployments.update("digits", "main", etag="", change=lambda one: one.wish, version="v2.0.0")
    assert (rolled.new.version, rolled.wish.external) == ("v2.0.0", AT)


async def test_what_only_asks_is_told_of_each_check() -> None:
    world = World()
    new = NewDeployment("digits", "v2.0.0", "main", Wish(external=AT))
    checks = {check.type: check for check in await world.deployments.validate(new)}
    assert all(check.status for check in checks.values())
    assert "it is not registered, so the server's schema holds" in checks["Version"].message
    assert not {"Artifact", "Requirements"} & set(checks)


async def test_servers_are_shown_the_credentials_of_whoever_owns_the_model_now() -> None:
    """A model that was given to another team takes no token of the one before along."""
    opened: list[tuple[str, str]] = []

    def open_external(
        external: ExternalBackend,
        address: str,
        *,
        model_name: str,
        name: str,
        schema: ModelSchema | None,
        team: str,
    ) -> ExternalModelServer:
        opened.append((address, team))
        return Outside()(external, address, model_name=model_name, name=name, schema=schema, team=team)

    backend = ExternalBackend("oip-rest", ("https://a:1",), credentials="token")
    made = await World(told(TeamTerms("vision"), digits=Standing("vision"))).create(backend)
    made = replace(made, progress=replace(made.progress, loaded={"https://a:1": "proven"}))
    fleet = Fleet({}, open_external)
    shown = []
    for team in ("vision", "vision", "fraud"):
        owned = replace(made, new=replace(made.new, team=team))
        await fleet.look([owned])
        assert fleet.server(owned, "https://a:1") is not None
        (version,) = published([fleet.site(owned)])["digits"].versions
        shown.append(version.credential)
    assert opened == [("https://a:1", "vision"), ("https://a:1", "fraud")]
    assert shown == ["vision/token", "vision/token", "fraud/token"]
    await fleet.close()
