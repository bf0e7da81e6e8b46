"""Brings back a version whose deployment is gone, the way it was deployed last.

How a version is deployed is noted while it answers, because the deployer forgets what is removed.
"""

import asyncio
import hashlib
from collections.abc import Sequence

from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger
from services.router.domain.backends import Backends, ReadyVersion
from services.router.domain.deployments import Deployed, Spec, deployment_name_for
from services.router.engines.changing import Call
from services.router.engines.publisher import Publisher
from services.router.ports import Deployments, SpecStore

log = get_logger(__name__)

_RETRY_S = 5.0
_ONE_BY_ONE_MAX = 20
"""Up to how many models are asked for one by one; of more, all deployments are read."""


class Redeploy:
    """Has versions deployed again."""

    def __init__(
        self,
        *,
        deployments: Deployments,
        specs: SpecStore,
        publisher: Publisher,
        clock: Clock,
        patience_s: float,
    ) -> None:
        self._deployments = deployments
        self._specs = specs
        self._publisher = publisher
        self._clock = clock
        self._patience_s = patience_s
        self._noted: dict[tuple[str, str], ReadyVersion] = {}
        self._looked_through: Backends | None = None

    def is_ready(self, model_name: str, version: str) -> bool:
        """Whether the version answers and can be given traffic."""
        model = self._publisher.backends.get(model_name)
        return model is not None and version in model.version_names and model_name in self._publisher.states

    async def bring_back(self, call: Call, version: str, *, timeout_s: float | None) -> None:
        """Returns once the version is ready; deploys it where it is not on its way already.

        Waits `timeout_s` seconds at most, and no longer than it is told to have patience. Raises VERSION_NOT_DEPLOYED
        where it cannot be deployed, with why, or is not ready in time: then the call can be repeated.
        """
        patience_s = self._patience_s if timeout_s is None else min(self._patience_s, timeout_s)
        deadline_s = self._clock.monotonic() + patience_s
        try:
            name = await self._on_its_way(call, version)
        except MeshError as error:
            if error.reason in (Reason.DEPENDENCY_UNAVAILABLE, Reason.DEADLINE_TOO_SHORT):
                raise
            raise _refused(call, version, error.message) from error
        failed = asyncio.create_task(self._failed(call, name, deadline_s), name=f"router:deployment {name}")
        try:
            await self._ready_or(failed, call, version, timeout_s=deadline_s - self._clock.monotonic())
        finally:
            failed.cancel()
            outcome = (await asyncio.gather(failed, return_exceptions=True))[0]
        if self.is_ready(call.model_name, version):
            log.info("a version was deployed again", model=call.model_name, version=version, deployment=name)
            return
        if isinstance(outcome, MeshError):
            raise outcome
        if isinstance(outcome, str):
            raise _refused(call, version, outcome)
        raise MeshError(
            Reason.VERSION_NOT_DEPLOYED,
            f"{version} of model {call.model_name!r} is being deployed again as {name!r} and was not ready within "
            f"{patience_s:.0f} s; the traffic is as it was, repeat the call with the same request_id to go on",
            metadata={"model_name": call.model_name, "version": version, "deployment_name": name},
            retry_after_s=2.0,
        )

    async def run(self) -> None:
        """Notes how versions are deployed. Never ends by itself."""
        away = False
        while True:
            changed = self._publisher.changed.current
            backends = self._publisher.backends
            news = self._news()
            if not news:
                self._looked_through = backends
                await changed.wait()
                continue
            try:
                await self._note(news)
                away = False
            except MeshError as error:
                if not away:
                    log.warning("how versions are deployed could not be noted; it is tried again", error=error.message)
                away = True
                await self._clock.sleep(_RETRY_S)

    async def _on_its_way(self, call: Call, version: str) -> str:
        """Sees to it that the version is being deployed; the deployment's name."""
        there = await self._deployments.every(call.model_name)
        for deployment in there:
            if deployment.version == version and deployment.status != "terminating":
                if deployment.status == "failed":
                    await self._deployments.restart(call.model_name, deployment.deployment_name)
                return deployment.deployment_name
        last = await self._specs.find(call.model_name, version)
        taken = {one.deployment_name for one in there if one.status != "terminating"}
        name = deployment_name_for(version, taken, last.deployment_name if last is not None else "")
        log.info("deploys a version again", model=call.model_name, version=version, deployment=name, known=bool(last))
        await self._deployments.deploy(
            Spec(call.model_name, version, name, last.spec if last is not None else b""),
            request_id=_request_id(call, version),
        )
        return name

    async def _failed(self, call: Call, name: str, deadline_s: float) -> str:
        """Returns once the deployment has failed, with why."""
        while True:
            left_s = deadline_s - self._clock.monotonic()
            deployment = await self._deployments.wait(call.model_name, name, timeout_s=max(0.1, left_s))
            if deployment.status == "failed":
                return deployment.error_message or f"deployment {name!r} failed"
            if deployment.status == "active":
                # The word that it is ready is on its way here by another stream.
                await self._publisher.changed.current.wait()

    async def _ready_or(self, failed: "asyncio.Task[str]", call: Call, version: str, *, timeout_s: float) -> None:
        """Returns once the version is ready, `failed` is done, or `timeout_s` seconds have passed."""
        failed.add_done_callback(lambda _: self._publisher.changed.fire())
        await self._publisher.changed.until(
            lambda: failed.done() or self.is_ready(call.model_name, version), timeout_s=max(0.0, timeout_s)
        )

    def _news(self) -> Sequence[str]:
        """The models of which a version is ready whose deployment was not looked at."""
        backends = self._publisher.backends
        if backends is self._looked_through:
            return ()
        return [
            name
            for name, model in backends.items()
            if any(self._noted.get((name, one.version)) != one for one in model.versions)
        ]

    async def _note(self, models: Sequence[str]) -> None:
        backends = self._publisher.backends
        looked_at = {(name, one.version): one for name in models if name in backends for one in backends[name].versions}
        found: list[Deployed] = []
        if len(models) > _ONE_BY_ONE_MAX:
            found.extend(await self._deployments.every(""))
        else:
            for name in models:
                found.extend(await self._deployments.every(name))
        specs = [
            Spec(one.model_name, one.version, one.deployment_name, one.spec)
            for one in found
            if (one.model_name, one.version) in looked_at
        ]
        await self._specs.keep(specs)
        self._noted.update(looked_at)
        # Versions come and go for years: those that are gone are noted anew when they are back.
        for name, version in list(self._noted):
            if name not in backends or version not in backends[name].version_names:
                del self._noted[name, version]


def _request_id(call: Call, version: str) -> str:
    """Of the deployment: the same for a call that is repeated. Empty where the call cannot be."""
    if not call.request_id:
        return ""
    digest = hashlib.sha256("\0".join((call.model_name, version, call.request_id)).encode()).hexdigest()
    return f"rollback-{digest[:40]}"


def _refused(call: Call, version: str, why: str) -> MeshError:
    return MeshError(
        Reason.VERSION_NOT_DEPLOYED,
        f"{version} of model {call.model_name!r} is not ready and could not be deployed again: {why}; the traffic is "
        "as it was, roll back to a version that is ready or mend this one's deployment",
        metadata={"model_name": call.model_name, "version": version},
    )
