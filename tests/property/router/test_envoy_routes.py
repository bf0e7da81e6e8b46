"""The route configuration of any table, parsed back: complete, exact and only as different as the table is."""

from collections import Counter
from collections.abc import Mapping, Sequence

from google.protobuf import any_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from meshxds.envoy.config.route.v3 import route_components_pb2, route_pb2
from meshxds.envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2

from services.router.adapters.envoy import buckets, names
from services.router.adapters.envoy.resources import Resource
from services.router.adapters.envoy.routes import RouteBuilder
from services.router.domain.routing import Condition, ModelRoutes, RoutingTable, Share

MODEL_NAMES = st.from_regex(r"[a-z0-9]([a-z0-9_-]{0,20}[a-z0-9])?", fullmatch=True)
VERSIONS = [f"v{number}.0.0" for number in range(1, 6)]
CONDITIONS = st.builds(
    Condition,
    header=st.sampled_from(["x-user-id", "x-region", "x-infermesh-team"]),
    values=st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4, unique=True).map(tuple),
    version=st.sampled_from(VERSIONS),
    prefix=st.booleans(),
)


@st.composite
def models(draw: st.DrawFn, name: str) -> ModelRoutes:
    count = draw(st.integers(0, 6))
    between = max(0, count - 1)
    cuts = sorted(draw(st.lists(st.integers(1, 99), min_size=between, max_size=between, unique=True)))
    percents = [after - before for before, after in zip([0, *cuts], [*cuts, 100], strict=True)] if count else []
    chosen = draw(st.lists(st.sampled_from(VERSIONS), min_size=count, max_size=count))
    shares = tuple(Share(version, percent) for version, percent in zip(chosen, percents, strict=True))
    conditions = tuple(draw(st.lists(CONDITIONS, max_size=2)))
    return ModelRoutes(name, tuple(VERSIONS), shares, draw(st.sampled_from(["", "x-user-id", "x-session"])), conditions)


@st.composite
def tables(draw: st.DrawFn) -> RoutingTable:
    known = draw(st.lists(MODEL_NAMES, unique=True, max_size=6))
    return RoutingTable(draw(st.integers(1, 2**53)), {name: draw(models(name)) for name in known})


def parsed(built: Sequence[Resource]) -> dict[str, route_components_pb2.VirtualHost]:
    """The hosts of all models, each of which is where its hash says and nowhere else."""
    hosts: dict[str, route_components_pb2.VirtualHost] = {}
    found = {item.name: route_pb2.RouteConfiguration.FromString(item.value) for item in built}
    assert len(found) == len(built) == buckets.BUCKETS + 1
    assert [(host.name, list(host.domains)) for host in found.pop(names.ROUTES).virtual_hosts] == [
        ("everything-else", [names.NO_MODEL]),
        ("some-model", ["*"]),
    ]
    for name, configuration in found.items():
        assert configuration.name == name
        assert configuration.vhost_header == names.HEADER_MODEL
        unknown, *known = configuration.virtual_hosts
        assert list(unknown.domains) == ["*"]
        for host in known:
            assert buckets.routes_name(buckets.bucket_of(host.name)) == name
            assert host.name not in hosts
            hosts[host.name] = host
    return hosts


def version_in(config: Mapping[str, any_pb2.Any]) -> str:
    """The version that a filter writes into the one header that batchers read."""
    (name,) = config
    assert name == names.FILTER_VERSION
    told = header_mutation_pb2.HeaderMutationPerRoute()
    assert config[name].Unpack(told)
    (mutation,) = told.mutations.request_mutations
    assert mutation.append.header.key == names.HEADER_ROUTE_VERSION
    return mutation.append.header.value


def shares_of(route: route_components_pb2.Route) -> list[tuple[str, int]]:
    """The versions and weights of a route, and that they go to the batcher in the one header that it reads."""
    if route.route.cluster:
        assert route.route.cluster == names.BATCHER
        return [(version_in(route.typed_per_filter_config), 100)]
    found = []
    for weighted in route.route.weighted_clusters.clusters:
        assert weighted.name == names.BATCHER
        found.append((version_in(weighted.typed_per_filter_config), weighted.weight.value))
    return found


@settings(max_examples=40)
@given(tables())
def test_each_model_with_traffic_has_its_split_and_no_other_has_a_host(table: RoutingTable) -> None:
    hosts = parsed(RouteBuilder().build(table))
    assert set(hosts) == {name for name, model in table.models.items() if model.shares}
    for name, host in hosts.items():
        model = table.models[name]
        assert list(host.domains) == [name]
        conditional, split = host.routes[: len(model.conditions)], host.routes[len(model.conditions) :]
        for condition, route in zip(model.conditions, conditional, strict=True):
            assert [header.name for header in route.match.headers] == [condition.header]
            assert shares_of(route) == [(condition.version, 100)]
        runs = [(share.version, share.percent) for share in model.shares]
        by_chance = Counter[str]()
        for version, percent in runs:
            by_chance[version] += percent
        assert shares_of(split[-1]) == list(by_chance.items())
        assert split[-1].match.prefix == "/"
        assert not split[-1].match.headers
        sticky = split[:-1]
        assert len(sticky) == (1 if model.sticky_header and len(by_chance) > 1 else 0)
        for route in sticky:
            assert shares_of(route) == runs
            assert route.route.weighted_clusters.use_hash_policy.value
            assert [header.name for header in route.match.headers] == [model.sticky_header]
            hashed = [policy.header.header_name for policy in route.route.hash_policy]
            assert hashed == [model.sticky_header, names.HEADER_MODEL]


@settings(max_examples=25)
@given(st.lists(tables(), min_size=2, max_size=4))
def test_what_a_builder_remembers_changes_nothing(history: list[RoutingTable]) -> None:
    remembering = RouteBuilder()
    for table in history:
        assert remembering.build(table) == RouteBuilder().build(table)


@settings(max_examples=30)
@given(tables(), st.data())
def test_a_change_of_one_model_changes_one_configuration(table: RoutingTable, data: st.DataObject) -> None:
    builder = RouteBuilder()
    before = builder.build(table)
    name = data.draw(st.sampled_from(sorted(table.models)) if table.models else MODEL_NAMES)
    changed = {**table.models, name: data.draw(models(name))}
    after = builder.build(RoutingTable(table.revision + 1, changed))
    different = [now.name for was, now in zip(before, after, strict=True) if was != now]
    assert different in ([], [buckets.routes_name(buckets.bucket_of(name))])


@settings(max_examples=30)
@given(tables())
def test_the_order_in_which_models_are_named_does_not_count(table: RoutingTable) -> None:
    backwards = RoutingTable(table.revision, dict(reversed(list(table.models.items()))))
    assert RouteBuilder().build(table) == RouteBuilder().build(backwards)
