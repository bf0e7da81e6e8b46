"""What holds, from what is ready and what is wanted."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from services.router.domain.merge import effective_shares, state_of
from services.router.domain.places import counted
from services.router.domain.routing import Share
from services.router.domain.rules import Split, Strategy
from services.router.domain.shadows import Shadow
from services.router.domain.table import ServingTable, brings_news, step, transitional
from tests.support.router_fakes import ready, without

OLD, NEW, NEXT = "v1.0.0", "v1.1.0", "v2.0.0"
BOTH = ready("m", OLD, NEW)


def test_without_a_rule_the_first_version_has_all_and_keeps_it() -> None:
    alone = state_of(ready("m", NEW), None, default="")
    assert alone.routes.shares == (Share(NEW, 100),)
    # A lower version that comes later gets nothing by itself.
    joined = state_of(BOTH, None, default=alone.serving.default_version)
    assert joined.routes.shares == (Share(NEW, 100),)
    assert state_of(BOTH, None, default="").routes.shares == (Share(OLD, 100),)


def test_when_the_default_goes_another_takes_over_and_keeps_it() -> None:
    left = state_of(without(BOTH, OLD), None, default=OLD)
    assert left.routes.shares == (Share(NEW, 100),)
    back = state_of(BOTH, None, default=left.serving.default_version)
    assert back.routes.shares == (Share(NEW, 100),)


def test_the_heaviest_is_the_default_and_of_equals_the_one_that_was() -> None:
    assert state_of(BOTH, Split({NEW: 60, OLD: 40}), default=OLD).serving.default_version == NEW
    half = Split({NEW: 50, OLD: 50})
    assert state_of(BOTH, half, default=OLD).serving.default_version == OLD
    assert state_of(BOTH, half, default=NEW).serving.default_version == NEW


def test_the_share_of_a_version_that_is_away_goes_to_the_others_in_proportion() -> None:
    rule = Split({NEXT: 50, NEW: 10, OLD: 40}, Strategy.STICKY, "x-user-id")
    state = state_of(BOTH, rule, default=NEXT)
    # Those that are there keep their places, 50 to 59 and 60 to 99.
    assert state.routes.shares == (Share(OLD, 40), Share(NEW, 20), Share(OLD, 40))
    assert state.displaced == (NEXT,)
    assert state.routes.sticky_header == "x-user-id"


def test_when_none_of_the_rule_is_ready_the_default_has_all() -> None:
    state = state_of(BOTH, Split({NEXT: 100}), default=NEW)
    assert state.routes.shares == (Share(NEW, 100),)
    assert state.displaced == (NEXT,)


@given(st.dictionaries(st.sampled_from([f"v{n}.0.0" for n in range(6)]), st.integers(1, 16), min_size=1), st.data())
def test_shares_are_whole_add_up_and_none_is_lost(parts: dict[str, int], data: st.DataObject) -> None:
    first = next(iter(parts))
    whole = Split({**parts, first: parts[first] + 100 - sum(parts.values())})
    present = data.draw(st.sets(st.sampled_from(sorted(whole.weights)), min_size=1))
    shares = effective_shares(whole, present)
    assert sum(share.percent for share in shares) == 100
    assert all(share.percent >= 1 for share in shares)
    percents = counted(shares)
    assert set(percents) == present
    total = sum(whole.weights[version] for version in present)
    assert all(abs(percent - whole.weights[version] * 100 / total) < 1 for version, percent in percents.items())


def test_a_version_that_leaves_stays_known_while_routes_name_it() -> None:
    known = state_of(BOTH, None, default=OLD)
    wanted = state_of(ready("m", NEW, NEXT), None, default=OLD)
    both = transitional(wanted.serving, known.serving, known.routes)
    assert both is not None
    assert both.ready.version_names == (OLD, NEW, NEXT)
    assert both.default_version == NEW
    assert transitional(None, known.serving, known.routes) == known.serving
    assert transitional(None, known.serving, None) is None
    assert transitional(wanted.serving, None, known.routes) == wanted.serving


def test_only_what_batchers_do_not_know_is_news() -> None:
    known = state_of(BOTH, None, default=OLD).serving
    assert not brings_news(known, state_of(ready("m", OLD), None, default=OLD).serving)
    assert not brings_news(known, state_of(BOTH, Split({NEW: 100}), default=OLD).serving)
    assert not brings_news(known, None)
    assert brings_news(known, state_of(ready("m", OLD, NEW, port=9), None, default=OLD).serving)
    assert brings_news(None, known)


def test_what_is_beside_the_shares_is_news_unless_it_only_goes_with_its_version() -> None:
    plain = state_of(BOTH, None, default=OLD).serving
    shadowed = state_of(BOTH, Split({OLD: 100}, shadows=(Shadow(NEW, 10),)), default=OLD).serving
    aliased = state_of(BOTH, None, default=OLD, aliases={"champion": NEW}).serving
    assert shadowed.shadows == (Shadow(NEW, 10),)
    assert brings_news(plain, shadowed)
    assert brings_news(shadowed, plain)
    assert brings_news(shadowed, replace(shadowed, shadows=(Shadow(NEW, 11),)))
    assert brings_news(plain, aliased)
    assert brings_news(aliased, plain)
    assert brings_news(plain, replace(plain, log_labels=True))
    # Nobody loses by hearing of these late.
    assert not brings_news(replace(plain, log_labels=True), plain)
    alone = ready("m", OLD)
    for known in (shadowed, aliased):
        left = state_of(alone, Split({OLD: 100}, shadows=known.shadows), default=OLD, aliases=known.aliases).serving
        assert (left.shadows, left.aliases) == ((), {})
        assert not brings_news(known, left)


def test_shadows_and_aliases_of_a_version_that_leaves_go_at_once() -> None:
    rule = Split({OLD: 100}, shadows=(Shadow(NEW),))
    known = state_of(BOTH, rule, default=OLD, aliases={"champion": NEW, "past": OLD})
    wanted = state_of(without(BOTH, NEW), rule, default=OLD, aliases={"champion": NEW, "past": OLD})
    both = transitional(wanted.serving, known.serving, known.routes)
    assert both is not None
    assert both.ready.version_names == (OLD, NEW)
    assert (both.shadows, both.aliases) == ((), {"past": OLD})
    nothing = transitional(None, known.serving, wanted.routes)
    assert nothing is not None
    assert (nothing.shadows, nothing.aliases) == ((), {"past": OLD})


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.sampled_from((OLD, NEW)), max_size=3), min_size=1))
def test_steps_lead_from_any_table_to_any_other(tables: list[dict[str, str]]) -> None:
    known, held = ServingTable(), dict[str, str]()
    for revision, content in enumerate(tables, 1):
        models = {name: state_of(ready(name, version), None, default="").serving for name, version in content.items()}
        newest = ServingTable(revision, models)
        taken = step(known, newest)
        if taken.full:
            held = {}
        held |= {model.ready.model_name: model.default_version for model in taken.models}
        for name in taken.removed:
            del held[name]
        assert held == content
        assert len(taken.models) <= len(content)
        known = newest
    again = step(known, ServingTable(known.revision + 1, known.models))
    assert (again.models, again.removed) == ((), ())
