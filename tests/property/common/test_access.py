"""Decisions about callers, over all rules and any identity."""

from hypothesis import given
from hypothesis import strategies as st

from services.common.access.book import AccessBook, AccessUpdate, TeamTerms
from services.common.access.decide import Facts, Standing, decide
from services.common.access.policy import RULES
from services.common.access.roles import ROLE_SCOPES, Role, Scope, role_of, scopes_of
from services.common.access.rule import Access, Rule
from services.common.errors import Reason
from services.common.grpc.identity import ANONYMOUS, PLATFORM_ADMIN, Identity

TEAMS = ("red", "green", "blue")
MODELS = ("iris", "digits", "fraud")

rules = st.sampled_from(list(RULES.values()))
scope_words = st.sampled_from([*Scope, "everything", ""])
identities = st.builds(
    Identity,
    user=st.sampled_from(["", "ada", "bob"]),
    team=st.sampled_from(["", *TEAMS]),
    role=st.sampled_from([ANONYMOUS, "viewer", "deployer", "admin", PLATFORM_ADMIN, "root", "Viewer"]),
    key_id=st.sampled_from(["", "k1"]),
    scopes=st.frozensets(scope_words, max_size=3),
    models=st.frozensets(st.sampled_from(MODELS), max_size=2),
)
standings = st.none() | st.builds(
    Standing, team=st.sampled_from(["", *TEAMS]), shared_with=st.frozensets(st.sampled_from(TEAMS), max_size=2)
)


@st.composite
def asked(draw: st.DrawFn) -> tuple[Rule, Identity, Facts]:
    """A call, with facts such as its rule lets a request state."""
    rule = draw(rules)
    model = draw(st.sampled_from(MODELS)) if rule.model and not (rule.optional and draw(st.booleans())) else ""
    team = draw(st.sampled_from(TEAMS)) if rule.team and not (rule.optional and draw(st.booleans())) else ""
    return rule, draw(identities), Facts(model, draw(standings), team)


@given(asked())
def test_only_who_is_strong_enough_passes(call: tuple[Rule, Identity, Facts]) -> None:
    rule, identity, facts = call
    if decide(rule, identity, facts) is None:
        assert role_of(identity) >= rule.role
        assert not rule.internal_only
        assert not (rule.writes and role_of(identity) <= Role.VIEWER)


@given(asked())
def test_nobody_and_who_claims_an_unknown_role_get_the_exempt_alone(call: tuple[Rule, Identity, Facts]) -> None:
    rule, identity, facts = call
    if role_of(identity) is Role.ANONYMOUS:
        error = decide(rule, identity, facts)
        if rule.role is not Role.ANONYMOUS:
            assert error is not None
            assert error.reason in {Reason.UNAUTHENTICATED, Reason.PERMISSION_DENIED}
        else:
            assert error is None


@given(asked(), st.frozensets(scope_words, min_size=1, max_size=3))
def test_scopes_never_widen(call: tuple[Rule, Identity, Facts], scopes: frozenset[str]) -> None:
    rule, identity, facts = call
    whole = Identity(identity.user, identity.team, identity.role, models=identity.models)
    narrow = Identity(identity.user, identity.team, identity.role, scopes=scopes, models=identity.models)
    assert scopes_of(narrow) <= scopes_of(whole) <= ROLE_SCOPES[role_of(identity)]
    if decide(rule, narrow, facts) is None:
        assert decide(rule, whole, facts) is None


@given(asked())
def test_a_key_that_is_limited_to_models_touches_only_these(call: tuple[Rule, Identity, Facts]) -> None:
    rule, identity, facts = call
    if identity.models and decide(rule, identity, facts) is None:
        assert not facts.model or facts.model in identity.models
        assert not (rule.writes and not rule.by_service and not facts.model)


@given(asked())
def test_a_limit_to_models_never_widens(call: tuple[Rule, Identity, Facts]) -> None:
    rule, identity, facts = call
    whole = Identity(identity.user, identity.team, identity.role, scopes=identity.scopes)
    if decide(rule, identity, facts) is None:
        assert decide(rule, whole, facts) is None


@given(asked())
def test_teams_are_apart(call: tuple[Rule, Identity, Facts]) -> None:
    rule, identity, facts = call
    if decide(rule, identity, facts) is not None or identity.role == PLATFORM_ADMIN:
        return
    assert facts.team in {"", identity.team}
    if facts.model and rule.access is not Access.CREATE:
        assert facts.standing is not None
        seen_by = {facts.standing.team, *facts.standing.shared_with}
        assert identity.team in seen_by or not facts.standing.team
        if rule.access is Access.WRITE:
            assert identity.team == facts.standing.team


@given(asked(), standings)
def test_what_is_hidden_answers_as_what_is_absent(
    call: tuple[Rule, Identity, Facts], standing: Standing | None
) -> None:
    rule, identity, facts = call
    absent = decide(rule, identity, Facts(facts.model, None, facts.team))
    there = decide(rule, identity, Facts(facts.model, standing, facts.team))
    hidden = standing is None or not identity.sees(facts.model, standing.team, standing.shared_with)
    if hidden:
        assert (there is None) == (absent is None)
        if there is not None and absent is not None:
            assert (there.reason, there.message, there.metadata) == (absent.reason, absent.message, absent.metadata)


@given(rules, standings)
def test_the_mesh_itself_may_everything(rule: Rule, standing: Standing | None) -> None:
    assert decide(rule, Identity(team="red", models=frozenset(MODELS)), Facts(MODELS[0], standing, "blue")) is None


@given(rules, identities)
def test_methods_between_services_refuse_whoever_has_a_role(rule: Rule, identity: Identity) -> None:
    if rule.internal_only:
        error = decide(rule, identity, Facts())
        assert error is not None
        assert error.reason is Reason.PERMISSION_DENIED


updates = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(MODELS), standings.filter(lambda one: one is not None), max_size=3),
        st.lists(st.sampled_from(MODELS), max_size=2, unique=True),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@given(updates, identities)
def test_a_book_shows_what_its_updates_add_up_to(
    changes: list[tuple[dict[str, Standing], list[str], bool]], identity: Identity
) -> None:
    book, expected = AccessBook(), dict[str, Standing]()
    for number, (models, removed, reset) in enumerate(changes):
        book.apply(AccessUpdate(str(number + 1), frozenset(), {"red": TeamTerms("red")}, models, reset, tuple(removed)))
        expected = {} if reset else {name: one for name, one in expected.items() if name not in removed}
        expected |= models
    assert {name: book.standing(name) for name in MODELS} == {name: expected.get(name) for name in MODELS}
    sight = book.sight(identity)
    if identity.unbounded:
        assert sight.everything
    else:
        assert (
            sight.names == {name for name, one in expected.items() if identity.sees(name, one.team, one.shared_with)}
            or identity.role == PLATFORM_ADMIN
        )
    restored = AccessBook()
    restored.apply(book.snapshot())
    assert restored.sight(identity) == sight
