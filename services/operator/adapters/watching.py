"""A `View` by kopf: it lists and watches, goes on after breaks, and tells what there is; kept here, in memory.

kopf calls no handler before it has called every indexing function for all that it listed, and calls both in order: so
whoever is told to look at an object finds all that there was at the start, and never decides by half of it. Nothing of
kopf's own is ever written into objects: no annotation, no finalizer.

kopf believes that it has the event loop and the process for itself: it takes the signals, and at its end it cancels
whatever task it does not know. Here it ends whenever another operator leads; so it runs in a thread, with a loop of
its own.

At its end kopf forgets some of what its tasks have begun, and then waits 5 s for that: the calls by which it finds out
what the API server serves, which go on without a connection and wait for credentials that nobody gives any more; and of
a list that it was about to take in, whoever waits for a pause. A stop within the first moments met the one or the
other. So both are ended here, the calls before their connection goes.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeVar

import kopf
from kubernetes_asyncio.client import Configuration

from services.common.body import Body, name_of, namespace_of, text
from services.common.kubernetes.kinds import MODEL_DEPLOYMENT, Kind
from services.common.telemetry.logging import get_logger
from services.operator.adapters.forgetful import NoDifferences, NoProgress
from services.operator.adapters.kinds import AB_TEST, CHILDREN, OPTIONAL_CHILDREN, QUOTA
from services.operator.domain.applying import Key, key_of
from services.operator.domain.names import DEPLOYMENT, FIELD_MANAGER, MANAGED_BY
from services.operator.ports import Name

log = get_logger(__name__)

K = TypeVar("K")

_LIST_CHUNK = 500
_STOP_TIMEOUT_S = 4.0
_GOODBYE_S = 0.25
_DEPLETION_S = 0.5
"""How long what was told already may take to be taken in at the end: it only has to be kept in memory."""
_SCANNING = "kopf._cogs.clients.scanning"
_OURS = {MANAGED_BY: FIELD_MANAGER}


class KopfView:
    """A `View`, and the task that keeps it: `run`. `named` and `ab_test_named` are told which objects to look at."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        namespaces: Sequence[str],
        named: Callable[[Name], None],
        ab_test_named: Callable[[Name], None],
    ) -> None:
        self._configuration = configuration
        self._namespaces = tuple(namespaces)
        self._named = named
        self._ab_test_named = ab_test_named
        self._wishes: dict[Name, Body] = {}
        self._ab_tests: dict[Name, Body] = {}
        self._children: dict[Name, dict[Key, Body]] = {}
        self._quotas: dict[str, dict[Key, Body]] = {}

    def wish(self, name: Name) -> Body | None:
        """A ModelDeployment."""
        return self._wishes.get(name)

    def ab_test(self, name: Name) -> Body | None:
        """An ABTest."""
        return self._ab_tests.get(name)

    def children(self, name: Name) -> Mapping[Key, Body]:
        """All that was made for a ModelDeployment."""
        return self._children.get(name, {})

    def quotas(self, namespace: str) -> Sequence[Body]:
        """The quotas of a namespace."""
        return tuple(self._quotas.get(namespace, {}).values())

    async def run(self) -> None:
        """Watches until it is cancelled. Raises what kopf ended by."""
        for kept in (self._wishes, self._ab_tests, self._children, self._quotas):
            kept.clear()
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[BaseException | None] = loop.create_future()
        stop, kopfs_loop = asyncio.Event(), asyncio.new_event_loop()

        def told(call: Callable[[], None]) -> None:
            # After the loop's end there is nobody left to tell.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(call)

        def end(error: BaseException | None) -> None:
            if not ended.done():
                ended.set_result(error)

        def watch() -> None:
            error: BaseException | None = None
            try:
                with asyncio.Runner(loop_factory=lambda: kopfs_loop) as runner:
                    runner.run(self._watch(stop, told))
            except BaseException as raised:
                error = raised
            told(lambda: end(error))

        threading.Thread(target=watch, name="operator: kopf", daemon=True).start()
        try:
            error = await asyncio.shield(ended)
            raise RuntimeError("watching ended by itself") from error
        finally:
            with suppress(RuntimeError):
                kopfs_loop.call_soon_threadsafe(stop.set)
            try:
                async with asyncio.timeout(_STOP_TIMEOUT_S):
                    await asyncio.shield(ended)
            except TimeoutError:
                log.warning("kopf did not stop in time; its thread is left to itself", timeout_s=_STOP_TIMEOUT_S)

    async def _watch(self, stop: asyncio.Event, told: Callable[[Callable[[], None]], None]) -> None:
        # A line for each event of each object would drown what the engines say; that signals are not its affair, too.
        logging.getLogger("kopf").setLevel(logging.WARNING)
        logging.getLogger("kopf._core.reactor.running").setLevel(logging.ERROR)
        settings = kopf.OperatorSettings()
        settings.posting.enabled = False
        settings.process.ultimate_exiting_timeout = None
        settings.persistence.diffbase_storage = NoDifferences()
        settings.persistence.progress_storage = NoProgress()
        settings.queueing.exit_timeout = _DEPLETION_S
        settings.watching.chunk_size = _LIST_CHUNK
        for kind in (*CHILDREN, *OPTIONAL_CHILDREN):
            # The API server sends what is the operator's, and nothing else of the cluster.
            settings.watching.label_selectors[kind.group, kind.plural] = f"{MANAGED_BY}={FIELD_MANAGER}"
        before = asyncio.all_tasks()
        roots = await kopf.spawn_tasks(
            registry=self._registry(told),
            settings=settings,
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            stop_flag=stop,
        )
        running = asyncio.create_task(kopf.run_tasks(roots, ignored=before), name="kopf")
        stopped = asyncio.create_task(stop.wait(), name="stop")
        await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        for begun in asyncio.all_tasks() - before:
            if _finds_out(begun):
                begun.cancel()
        await asyncio.wait(roots)
        for left in asyncio.all_tasks() - before - {running}:
            left.cancel()
        await running
        # Lists that it left half taken in are closed with the loop, in no order, and some of them say that.
        asyncio.get_running_loop().set_exception_handler(_left_behind)
        # Connections over TLS say goodbye; nothing tells when they have, and this loop ends with what is open.
        await asyncio.sleep(_GOODBYE_S)

    def _registry(self, told: Callable[[Callable[[], None]], None]) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(id="login", registry=registry)
        async def login(**_: object) -> kopf.ConnectionInfo:
            return await _credentials(self._configuration)

        for kind in (MODEL_DEPLOYMENT, AB_TEST, QUOTA):
            self._follow(registry, kind, told)
        for kind in (*CHILDREN, *OPTIONAL_CHILDREN):
            self._follow(registry, kind, told, labels=_OURS)
        return registry

    def _follow(
        self,
        registry: kopf.OperatorRegistry,
        kind: Kind,
        told: Callable[[Callable[[], None]], None],
        *,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Has every state of a kind's objects kept here, and after each names whose it is."""
        resource = (kind.group, kind.version, kind.plural)

        @kopf.index(*resource, id=f"{kind.plural}-kept", registry=registry, labels=labels)
        async def keep(body: kopf.Body, **_: object) -> None:
            # Lists do not say of each object what it is.
            found = {**body, "apiVersion": kind.api_version, "kind": kind.kind}
            told(lambda: self._keep(found))

        @kopf.on.event(*resource, id=f"{kind.plural}-changed", registry=registry, labels=labels)
        async def changed(event: kopf.RawEvent, body: kopf.Body, **_: object) -> None:
            found = {**body, "apiVersion": kind.api_version, "kind": kind.kind}
            gone = event["type"] == "DELETED"
            told(lambda: self._changed(found, gone=gone))

    def _keep(self, body: Body) -> None:
        kind = text(body, "kind")
        if kind == MODEL_DEPLOYMENT.kind:
            self._wishes[_own_name(body)] = body
        elif kind == AB_TEST.kind:
            self._ab_tests[_own_name(body)] = body
        elif kind == QUOTA.kind:
            self._quotas.setdefault(namespace_of(body), {})[key_of(body)] = body
        else:
            self._children.setdefault(_owner(body), {})[key_of(body)] = body

    def _changed(self, body: Body, *, gone: bool) -> None:
        kind = text(body, "kind")
        if gone:
            self._drop(body)
        if kind == MODEL_DEPLOYMENT.kind:
            self._named(_own_name(body))
        elif kind == AB_TEST.kind:
            self._ab_test_named(_own_name(body))
        elif kind != QUOTA.kind:
            self._named(_owner(body))

    def _drop(self, body: Body) -> None:
        kind = text(body, "kind")
        if kind == MODEL_DEPLOYMENT.kind:
            self._wishes.pop(_own_name(body), None)
        elif kind == AB_TEST.kind:
            self._ab_tests.pop(_own_name(body), None)
        elif kind == QUOTA.kind:
            _drop_in(self._quotas, namespace_of(body), key_of(body))
        else:
            _drop_in(self._children, _owner(body), key_of(body))


def _drop_in(kept: dict[K, dict[Key, Body]], owner: K, key: Key) -> None:
    held = kept.get(owner, {})
    held.pop(key, None)
    if not held:
        kept.pop(owner, None)


def _left_behind(_: asyncio.AbstractEventLoop, context: Mapping[str, object]) -> None:
    log.debug("kopf has ended, and something of it not well", said=str(context.get("message")))


def _finds_out(task: asyncio.Task[object]) -> bool:
    """Whether a task of kopf's asks the API server what it serves."""
    frame = getattr(task.get_coro(), "cr_frame", None)
    return frame is not None and frame.f_globals.get("__name__") == _SCANNING


def _own_name(body: Body) -> Name:
    return namespace_of(body), name_of(body)


def _owner(body: Body) -> Name:
    return namespace_of(body), text(body, "metadata", "labels", DEPLOYMENT)


async def _credentials(configuration: Configuration) -> kopf.ConnectionInfo:
    said = await configuration.get_api_key_with_prefix("BearerToken") or ""
    scheme, _, token = said.rpartition(" ")
    return kopf.ConnectionInfo(
        server=str(configuration.host),
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        scheme=scheme or None,
        token=token or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
    )
