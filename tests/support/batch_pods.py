"""Pods that are real: what a kubelet does of them, with processes of this machine for containers; and, where no real
controller is at hand, what the Job controller does of Indexed Jobs."""

import asyncio
import base64
import contextlib
import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from services.common.body import Body, at, items, name_of, table, text, whole
from services.common.errors import MeshError
from services.common.kubernetes.api_server import MERGE
from tests.support.operator_kube import KINDS, NODE, Kube

ROOT = Path(__file__).parents[2]
JOB_NAME, INDEX = "batch.kubernetes.io/job-name", "batch.kubernetes.io/job-completion-index"
_REFERENCE = re.compile(r"\$\(([A-Z_]+)\)")
_EVERY_S = 0.1
_NOW = "2026-11-26T12:00:00Z"
_AT_ONCE = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}


class Node:
    """Runs the pods of a namespace; `run` is a background task. `mine` is what containers have of this machine."""

    def __init__(self, kube: Kube, namespace: str, mine: Mapping[str, str], *, binds: bool, folder: Path) -> None:
        """`binds`: whether the API server wants to hear by a Binding where a pod is. Mounts are in `folder`."""
        self._kube = kube
        self._namespace = namespace
        self._mine = mine
        self._binds = binds
        self.folder = folder
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        """By the pod's uid."""
        self._told: set[str] = set()
        self.names: dict[str, str] = {}
        """Of every pod that was ever run, by uid."""
        self.waiting: Mapping[str, str] | None = None
        """Why no container starts."""

    async def run(self) -> None:
        """Until it is cancelled; then no process is left."""
        try:
            while True:
                with contextlib.suppress(MeshError):
                    await self._look()
                await asyncio.sleep(_EVERY_S)
        finally:
            for process in self.processes.values():
                if process.returncode is None:
                    process.kill()
                    await process.wait()

    def alive(self) -> list[str]:
        """The uids of pods whose process runs."""
        return [uid for uid, process in self.processes.items() if process.returncode is None]

    def codes(self) -> dict[str, int]:
        """How processes ended, by the pod's uid."""
        return {uid: one.returncode for uid, one in self.processes.items() if one.returncode is not None}

    def kill(self, uid: str) -> None:
        """As the kernel would."""
        os.kill(self.processes[uid].pid, signal.SIGKILL)

    async def preempt(self, uid: str) -> None:
        """As the scheduler would: the pod says so, and is deleted."""
        name = self.names[uid]
        why = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "spot"}
        pod = await self._kube.get("Pod", self._namespace, name)
        kept = [one for one in items(pod, "status", "conditions") if text(one, "type") != "DisruptionTarget"]
        await self._say(name, {"conditions": [*kept, {**why, "lastTransitionTime": _NOW}]})
        path = KINDS["Pod"].path(self._namespace, name)
        await self._kube.server.call("DELETE", path, kind="Pod", body={**_AT_ONCE, "gracePeriodSeconds": 20})

    async def _look(self) -> None:
        pods = {text(pod, "metadata", "uid"): pod for pod in await self._kube.list("Pod", self._namespace)}
        for uid, pod in pods.items():
            ends = at(pod, "metadata", "deletionTimestamp") is not None
            process = self.processes.get(uid)
            if process is None:
                if ends:
                    await self._gone(name_of(pod))
                elif text(pod, "status", "phase") in {"", "Pending"}:
                    await self._start(uid, pod)
            elif process.returncode is None:
                if ends:
                    self._terminate(uid)
            else:
                await self._ended(pod, process.returncode)
                if ends:
                    await self._gone(name_of(pod))
        for uid, process in self.processes.items():
            if uid not in pods and process.returncode is None:
                self._terminate(uid)

    def _terminate(self, uid: str) -> None:
        """Once. Not by the process's own method, which may take its exit code away from whoever waits for it."""
        if uid not in self._told:
            self._told.add(uid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.processes[uid].pid, signal.SIGTERM)

    async def _start(self, uid: str, pod: Body) -> None:
        name = name_of(pod)
        if self._binds and not text(pod, "spec", "nodeName"):
            target = {"apiVersion": "v1", "kind": "Node", "name": NODE}
            metadata = {"name": name, "namespace": self._namespace}
            binding = {"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": target}
            path = KINDS["Pod"].path(self._namespace, name, "binding")
            await self._kube.server.call("POST", path, kind="Pod", body=binding)
        if self.waiting is not None:
            await self._say(name, {"phase": "Pending", **_container({"waiting": self.waiting})})
            return
        (container,) = items(pod, "spec", "containers")
        mounts = await self._mounted(pod, container)
        args = [one for one in items(container, "args") if isinstance(one, str)]
        # A file and no pipe: nobody reads along.
        self.processes[uid] = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            *args,
            cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL,
            env={**self._mine, **_elsewhere(await self._environment(pod, container), mounts)},
        )
        self.names[uid] = name
        ready = [
            {"type": kind, "status": "True", "lastTransitionTime": _NOW}
            for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        ]
        await self._say(
            name, {"phase": "Running", "conditions": ready, **_container({"running": {"startedAt": _NOW}}, ready=True)}
        )

    async def _ended(self, pod: Body, code: int) -> None:
        if text(pod, "status", "phase") in {"Succeeded", "Failed"}:
            return
        code = 128 - code if code < 0 else code
        ended = {"exitCode": code, "reason": "Error" if code else "Completed", "finishedAt": _NOW, "startedAt": _NOW}
        kept = [one for one in items(pod, "status", "conditions") if text(one, "type") == "DisruptionTarget"]
        status = {"phase": "Failed" if code else "Succeeded", "conditions": kept}
        await self._say(name_of(pod), {**status, **_container({"terminated": ended})})

    async def _gone(self, name: str) -> None:
        await self._kube.server.call("DELETE", KINDS["Pod"].path(self._namespace, name), kind="Pod", body=_AT_ONCE)

    async def _say(self, name: str, status: Body) -> None:
        path = KINDS["Pod"].path(self._namespace, name, "status")
        await self._kube.server.call("PATCH", path, kind="Pod", body={"status": status}, content_type=MERGE)

    async def _mounted(self, pod: Body, container: object) -> Mapping[str, Path]:
        """Where the pod's Secrets are, by the path that the container knows."""
        found: dict[str, Path] = {}
        volumes = {text(one, "name"): one for one in items(pod, "spec", "volumes")}
        for mount in items(container, "volumeMounts"):
            volume = volumes[text(mount, "name")]
            if not text(volume, "secret", "secretName"):
                continue
            secret = await self._kube.get("Secret", self._namespace, text(volume, "secret", "secretName"))
            assert secret is not None, "a pod whose Secret is missing does not start"
            keys = {text(one, "key"): text(one, "path") for one in items(volume, "secret", "items")}
            folder = self.folder / text(pod, "metadata", "uid") / text(mount, "name")
            folder.mkdir(parents=True)
            for key, value in table(secret, "data").items():
                if not keys or key in keys:
                    (folder / keys.get(key, key)).write_bytes(base64.b64decode(str(value)))
            found[text(mount, "mountPath")] = folder
        return found

    async def _environment(self, pod: Body, container: object) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for source in items(container, "envFrom"):
            secret = await self._kube.get("Secret", self._namespace, text(source, "secretRef", "name"))
            for key, value in table(secret or {}, "data").items():
                found[key] = base64.b64decode(str(value)).decode()
        for one in items(container, "env"):
            field = text(one, "valueFrom", "fieldRef", "fieldPath")
            annotation = re.fullmatch(r"metadata\.annotations\['(.+)'\]", field)
            value = text(pod, "metadata", "annotations", annotation[1]) if annotation else text(one, "value")
            found[text(one, "name")] = _REFERENCE.sub(lambda match: found[match[1]], value)
        return found


def _elsewhere(environment: Mapping[str, str], mounts: Mapping[str, Path]) -> Mapping[str, str]:
    """The same with paths of mounts as they are here: processes of one machine share its file system."""
    return {
        name: next((f"{at}{value.removeprefix(path)}" for path, at in mounts.items() if value.startswith(path)), value)
        for name, value in environment.items()
    }


def _container(state: object, *, ready: bool = False) -> Body:
    status = {"name": "worker", "image": "x", "imageID": "", "ready": ready, "restartCount": 0, "state": state}
    return {"containerStatuses": [status]}


class PlayedJobs:
    """A Job controller for Indexed Jobs, as far as ours go; `run` is a background task."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._made = 0

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            with contextlib.suppress(MeshError):
                for job in await self._kube.list("Job", self._namespace):
                    await self._look(job)
            await asyncio.sleep(_EVERY_S)

    async def _look(self, job: Body) -> None:
        if items(job, "status", "conditions"):
            return
        pods = [
            pod
            for pod in await self._kube.list("Pod", self._namespace)
            if text(pod, "metadata", "labels", JOB_NAME) == name_of(job)
        ]
        phases: dict[int, list[Body]] = {}
        for pod in pods:
            phases.setdefault(int(text(pod, "metadata", "annotations", INDEX)), []).append(pod)
        completions, limit = whole(job, "spec", "completions"), whole(job, "spec", "backoffLimitPerIndex")
        done = {index for index, its in phases.items() if any(_phase(pod) == "Succeeded" for pod in its)}
        failed = {index for index, its in phases.items() if _counted(its) > limit}
        active = [pod for pod in pods if _phase(pod) in {"", "Pending", "Running"}]
        ready = sum(_phase(pod) == "Running" for pod in active)
        conditions = []
        if len(failed) > whole(job, "spec", "maxFailedIndexes"):
            why = {"reason": "MaxFailedIndexesExceeded", "message": "Job has exceeded the specified maximal number"}
            conditions.append({"type": "Failed", "status": "True", **why})
        elif len(done | failed) == completions:
            conditions.append({"type": "Complete" if not failed else "Failed", "status": "True", "reason": "Ended"})
        status = {"active": len(active), "ready": ready, "succeeded": len(done), "conditions": conditions}
        if {key: at(job, "status", key) or ([] if key == "conditions" else 0) for key in status} != status:
            path = KINDS["Job"].path(self._namespace, name_of(job), "status")
            await self._kube.server.call("PATCH", path, kind="Job", body={"status": status}, content_type=MERGE)
        wanted = 0 if conditions or at(job, "spec", "suspend") is True else whole(job, "spec", "parallelism")
        for pod in active[wanted:]:
            await self._kube.delete("Pod", self._namespace, name_of(pod))
        busy = {int(text(pod, "metadata", "annotations", INDEX)) for pod in active}
        free = [index for index in range(completions) if index not in done | failed | busy]
        for index in free[: max(0, wanted - len(active))]:
            await self._make(job, index)

    async def _make(self, job: Body, index: int) -> None:
        self._made += 1
        template = table(job, "spec", "template")
        labels = {**table(template, "metadata", "labels"), JOB_NAME: name_of(job), INDEX: str(index)}
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name_of(job), "uid": text(job, "metadata", "uid")}
        metadata = {
            "name": f"{name_of(job)}-{index}-{self._made:05d}",
            "namespace": self._namespace,
            "labels": labels,
            "annotations": {**table(template, "metadata", "annotations"), INDEX: str(index)},
            "ownerReferences": [owner],
        }
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": table(template, "spec")}
        await self._kube.apply(body)


def _phase(pod: Body) -> str:
    return text(pod, "status", "phase")


def _counted(pods: list[Body]) -> int:
    """Failures that count: none of pods that were preempted, and all there may be of one that can never work."""
    count = 0
    for pod in pods:
        if _phase(pod) != "Failed" or any(
            text(one, "type") == "DisruptionTarget" for one in items(pod, "status", "conditions")
        ):
            continue
        code = whole(pod, "status", "containerStatuses", 0, "state", "terminated", "exitCode")
        count += 10**6 if code == 78 else 1
    return count
