"""However registrations are cut off and repeated, all that is kept is whole, and a repeat completes what was begun."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from services.common.errors import MeshError, Reason
from services.registry.domain.artifact_uri import ArtifactPlace
from services.registry.domain.artifacts import MESH, Sender
from services.registry.domain.registration import Registration, check_registration
from services.registry.domain.version import Artifact, NewVersion, Version
from services.registry.engines.registering import Registering
from tests.support.clock import FakeClock
from tests.support.registry_fakes import FakeReader, MemoryArtifactStore, MemoryCatalogue
from tests.support.registry_reading import MemoryTeamRules, unsigned

T = TypeVar("T")
FILES = {f"/{name}.onnx": name.encode() for name in ("one", "two")}


class KilledError(Exception):
    """The process dies here."""


class Fragile:
    """Catalogue and store that die before or after a step when told so."""

    def __init__(self) -> None:
        self.catalogue = MemoryCatalogue(FakeClock())
        self.store = MemoryArtifactStore(FakeClock(), FILES)
        self.dies = ""

    async def keep(self, place: ArtifactPlace, *, digest: str = "", sender: Sender = MESH) -> Artifact:
        return await self._step("keep", lambda: self.store.keep(place, digest=digest, sender=sender))

    async def register(self, new: NewVersion) -> Version:
        return await self._step("register", lambda: self.catalogue.register(new))

    async def _step(self, name: str, act: Callable[[], Coroutine[Any, Any, T]]) -> T:
        if self.dies == f"before {name}":
            raise KilledError
        done = await act()
        if self.dies == f"after {name}":
            raise KilledError
        return done


class Registrations(RuleBasedStateMachine):
    """Callers who register, are cut off, and try again."""

    asked = Bundle("asked")

    def __init__(self) -> None:
        super().__init__()
        self.fragile = Fragile()
        self.registering = Registering(
            catalogue=self.fragile,  # type: ignore[arg-type]
            store=self.fragile,  # type: ignore[arg-type]
            reader=FakeReader(),
            rules=MemoryTeamRules(),
            verifying=unsigned(),
        )
        self.first: dict[str, Version] = {}

    @rule(
        target=asked,
        version=st.sampled_from(["v1.0.0", "1.0.0", "v1.1.0"]),
        path=st.sampled_from(sorted(FILES)),
        request_id=st.sampled_from(["", "r1", "r2"]),
        accuracy=st.sampled_from([0.5, 0.9]),
    )
    def ask(self, version: str, path: str, request_id: str, accuracy: float) -> Registration:
        return Registration("iris", version, path, metadata={"accuracy": accuracy}, request_id=request_id)

    @rule(asked=asked, dies=st.sampled_from(["", "before keep", "after keep", "before register", "after register"]))
    def register(self, asked: Registration, dies: str) -> None:
        self.fragile.dies = dies
        check_registration(asked)
        try:
            made = asyncio.run(self.registering.register(asked))
        except KilledError:
            self.fragile.dies = ""
            made_or_refused = asyncio.run(self.outcome(asked))
            assert made_or_refused == asyncio.run(self.outcome(asked))
        except MeshError as error:
            assert error.reason in (Reason.VERSION_EXISTS, Reason.REQUEST_ID_REUSED)  # noqa: PT017 - one of two
        else:
            assert made == self.first.setdefault(made.version, made)

    async def outcome(self, asked: Registration) -> Version | Reason:
        try:
            return await self.registering.register(asked)
        except MeshError as error:
            return error.reason

    @invariant()
    def every_version_has_its_artifact_and_never_changes(self) -> None:
        versions = asyncio.run(self.fragile.catalogue.versions("iris", stage="", below="", limit=10))
        for version in versions:
            assert version.content.artifact.digest in self.fragile.store.kept
            assert version == self.first.setdefault(version.version, version)


Registrations.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestRegistrations = Registrations.TestCase
