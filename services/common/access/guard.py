"""What stands before every servicer: the caller's role, scope, team and models, held against the rule of the method."""

from collections.abc import AsyncIterator, Callable
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from services.common.access.book import AccessBook
from services.common.access.decide import Facts, Standing, decide_caller, decide_model, unauthenticated
from services.common.access.policy import rule_of
from services.common.access.rule import Access, Rule
from services.common.errors import MeshError
from services.common.grpc.identity import Identity
from services.common.names import check_model_name

M = TypeVar("M", bound=Message)


class OwnerSource(Protocol):
    """Who can say whose a model is where the book cannot: the registry."""

    async def standing(self, model_name: str, identity: Identity) -> Standing | None:
        """Whose the model is, as far as that caller may know; None: there is none for them. Raises
        DEPENDENCY_UNAVAILABLE."""
        ...


class Guard:
    """Refuses callers. Without a book it leaves models to the service itself, as the registry's must: the database
    behind it knows better than any copy.

    A name that the book does not show the caller is asked about at the registry, be it another team's or nobody's. So a
    model that was registered or shared a moment ago is found, and what is hidden answers as what is absent also in how
    long it takes and in what it says while the registry is away.
    """

    def __init__(
        self,
        book: AccessBook | None = None,
        *,
        owners: OwnerSource | None = None,
        on_key: Callable[[str], None] | None = None,
        revoked: Callable[[str], bool] | None = None,
    ) -> None:
        """`on_key` hears of each key that is used. `revoked`: whether a key is; without it the book says so."""
        self._book = book
        self._owners = owners
        self._on_key = on_key
        self._revoked = revoked if revoked is not None or book is None else book.revoked

    def admit(self, method: str, identity: Identity) -> Rule:
        """The rule of the method, if the caller may use it at all. Raises UNAUTHENTICATED, PERMISSION_DENIED."""
        rule = rule_of(method)
        if identity.key_id and self._on_key is not None:
            self._on_key(identity.key_id)
        self._refuse_revoked(identity)
        _raise(decide_caller(_nameless(rule), identity, Facts()))
        return rule

    async def check(self, rule: Rule, identity: Identity, request: Message) -> None:
        """Whether the caller may ask for this. Raises as `decide` says, INVALID_FIELD where the name cannot be one, or
        DEPENDENCY_UNAVAILABLE where it is not known and the registry is away."""
        if not identity.role or not (rule.model or rule.team or rule.writes):
            return
        facts = facts_of(rule, request)
        _raise(decide_caller(rule, identity, facts))
        if self._book is None or not facts.model:
            return
        if rule.access is Access.CREATE:
            return
        standing = self._book.standing(facts.model)
        if standing is None or not identity.sees(facts.model, standing.team, standing.shared_with):
            standing = await self._asked(facts.model, identity)
        _raise(decide_model(rule, identity, Facts(facts.model, standing, facts.team)))

    def still(self, rule: Rule, identity: Identity, request: Message) -> None:
        """What `check` asked, again, before another answer of a stream leaves: by what is known here alone."""
        if not identity.role:
            return
        self._refuse_revoked(identity)
        if self._book is None:
            return
        model = text_at(request, rule.model) if rule.model else ""
        if model:
            _raise(decide_model(rule, identity, Facts(model, self._book.standing(model))))

    async def checked(self, rule: Rule, identity: Identity, requests: AsyncIterator[M]) -> AsyncIterator[M]:
        """The requests of a stream, each once the caller may make it."""
        async for request in requests:
            await self.check(rule, identity, request)
            yield request

    def _refuse_revoked(self, identity: Identity) -> None:
        if self._revoked is not None and identity.key_id and self._revoked(identity.key_id):
            raise unauthenticated()

    async def _asked(self, model: str, identity: Identity) -> Standing | None:
        if self._owners is None or self._book is None:
            return None
        before = self._book.revision
        standing = await self._owners.standing(model, identity)
        # What the registry told everybody meanwhile may be newer than its answer.
        if standing is not None and self._book.revision == before:
            self._book.learn(model, standing)
        return standing


def facts_of(rule: Rule, request: Message) -> Facts:
    """What the request names, by the rule's paths. Raises INVALID_FIELD for what no model can be called."""
    model = text_at(request, rule.model) if rule.model else ""
    team = text_at(request, rule.team) if rule.team else ""
    if model and rule.access is not Access.CREATE:
        check_model_name(model, rule.model)
    return Facts(model=model, team=team)


def text_at(request: Message, path: str) -> str:
    """The text field at a dotted path of a message."""
    *parents, last = path.split(".")
    for name in parents:
        request = getattr(request, name)
    value = getattr(request, last)
    if not isinstance(value, str):
        raise TypeError(f"{path} of {request.DESCRIPTOR.full_name} is no text")
    return value


def _nameless(rule: Rule) -> Rule:
    """The rule as it stands before the request is read."""
    return Rule(role=rule.role, scopes=rule.scopes, internal_only=rule.internal_only)


def _raise(error: MeshError | None) -> None:
    if error is not None:
        raise error
