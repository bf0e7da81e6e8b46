"""How quickly the registry finds among many: `python -m benchmarks.registry_search [--models 10000] [--versions 5]`.

It starts a PostgreSQL and a registry of its own, loads models and versions by COPY into `models` and `model_versions`
(the database derives what searches read, as for any other row), and asks over gRPC, one question after the other, each
kind of question with many different values. Every kind is asked as the mesh itself, who sees all, and as a member of
one of the 500 teams. Then it registers versions through CreateModel, and measures how long a change that was answered
takes to reach who follows the changes.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import grpc
import psycopg
from infermesh.registry.v1 import registry_service_pb2, registry_service_pb2_grpc
from rich.console import Console
from rich.table import Table

from services.common.clock import SystemClock
from services.common.garbage import settle
from services.common.grpc.channel import open_channel
from services.common.grpc.identity import HEADER_ROLE, HEADER_TEAM
from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec
from services.registry.adapters.rows import version_parameters
from services.registry.domain.version import FRAMEWORKS, Artifact, Content, Lineage, NewVersion, Stage
from services.supervisor.parts.postgres import database_url, postgres_part, read_password
from services.supervisor.parts.service import service_part
from services.supervisor.ports import free_ports
from services.supervisor.process import Process
from services.supervisor.settings import ROOT

CLOCK = SystemClock()
TEAMS, DATASETS, PEOPLE, COMMITS = 500, 400, 200, 2000
METRICS = ("accuracy", "f1", "loss", "auc", "latency_ms")
TAGS = tuple(f"tag-{number}" for number in range(60))
SUBJECTS = ("fraud", "churn", "sentiment", "ranking", "vision", "speech", "pricing", "demand", "anomaly", "triage")
SYLLABLES = [f"{one}{two}" for one in "bcdfghklmnprstvz" for two in "aeiou"]
WORDS = tuple("".join(random.Random(number).choices(SYLLABLES, k=3 + number % 2)) for number in range(3000))
CARD_WORDS = 120
DIGITS = ROOT / ".build" / "digits" / "digits-v1.0.0.onnx"
Search = registry_service_pb2.SearchModelsRequest
Ask = Callable[[random.Random], Awaitable[int]]


@dataclass(frozen=True)
class World:
    """What was loaded: of which name each model is, and whose."""

    names: Sequence[str]
    versions: int


def model_name(number: int) -> str:
    """Ten subjects, so that a prefix is a tenth."""
    return f"{SUBJECTS[number % len(SUBJECTS)]}-{number:05d}"


def version_name(number: int) -> str:
    """v1.0.0, v1.1.0 and so on."""
    return f"v1.{number}.0"


def content(chance: random.Random, number: int, version: int, name: str) -> Content:
    """A version with five metrics, a few tags and everything that lineage knows; every second comes of another."""
    metrics = {metric: round(chance.random(), 4) for metric in METRICS}
    parent = version_name(version - 1) if version else ""
    if not version and number >= 1000:
        parent = f"{model_name(number - 1000)}@{version_name(0)}"
    return Content(
        framework=FRAMEWORKS[number % len(FRAMEWORKS)],
        artifact=Artifact(f"{number:032x}{version:032x}", "file", f"{name}.onnx", 5_000_000),
        schema=ModelSchema(
            tuple(TensorSpec(f"feature_{place}", DataType.FP32, ()) for place in range(20)),
            (TensorSpec("label", DataType.INT64), TensorSpec("probabilities", DataType.FP32, (3,))),
        ),
        schema_source="artifact",
        mapping=PredictionMapping("label", "probabilities", ("a", "b", "c")),
        framework_version="1.0",
        input_schema={f"feature_{place}": "float" for place in range(20)},
        output_schema={"label": "int", "probabilities": "array<float>"},
        metadata={**metrics, "note": " ".join(chance.choices(WORDS, k=20))},
        lineage=Lineage(
            training_run=f"run-{number}-{version}",
            dataset=f"dataset-{chance.randrange(DATASETS)}",
            code_commit=f"{chance.randrange(COMMITS):040x}",
            parent_version=parent,
            trained_by=f"person-{chance.randrange(PEOPLE)}",
        ),
        metrics=metrics,
        tags=tuple(sorted(chance.sample(TAGS, 3))),
    )


def load(url: str, models: int, versions: int) -> World:
    """Fills the tables and has the planner learn what they hold."""
    chance = random.Random(7)
    with psycopg.connect(url.replace("+psycopg", ""), options="-c search_path=registry,public") as connection:
        for number in range(TEAMS):
            connection.execute("INSERT INTO teams (name, namespace) VALUES (%s, %s)", (f"team-{number}",) * 2)
        teams = [row[0] for row in connection.execute("SELECT id FROM teams ORDER BY created_at, name")]
        columns, then = "name, description, framework, team_id, tags, model_card", CLOCK.now() - timedelta(days=400)
        with connection.cursor().copy(f"COPY models ({columns}) FROM STDIN") as copy:
            for number in range(models):
                words = " ".join(chance.choices(WORDS, k=12))
                card = "# Card\n\n" + " ".join(chance.choices(WORDS, k=CARD_WORDS))
                framework = FRAMEWORKS[number % len(FRAMEWORKS)]
                owner = teams[number % TEAMS] if number % 10 else None
                copy.write_row((model_name(number), words, framework, owner, sorted(chance.sample(TAGS, 2)), card))
        ids: dict[str, object] = dict(connection.execute("SELECT name, id FROM models").fetchall())
        names = list(version_parameters(_new(chance, 0, 0)))
        stages = (Stage.DRAFT, Stage.ACTIVE, Stage.DEPRECATED, Stage.ARCHIVED)
        places = ", ".join(("model_id", "created_at", "updated_at", *names))
        with connection.cursor().copy(f"COPY model_versions ({places}) FROM STDIN") as copy:
            for number in range(models):
                for version in range(versions):
                    new = replace(_new(chance, number, version), stage=chance.choice(stages))
                    made = then + timedelta(days=chance.uniform(0, 300))
                    changed = made + timedelta(days=chance.uniform(0, 100))
                    copy.write_row((ids[new.model_name], made, changed, *version_parameters(new).values()))
        connection.execute(
            "INSERT INTO model_aliases (model_id, alias, version_id, revision) SELECT v.model_id, 'champion', v.id, 1 "
            "FROM model_versions v JOIN version_finding f ON f.version_id = v.id WHERE f.is_highest"
        )
        connection.commit()
        connection.autocommit = True
        connection.execute("ANALYZE")
    return World([model_name(number) for number in range(models)], versions)


def _new(chance: random.Random, number: int, version: int) -> NewVersion:
    name = model_name(number)
    return NewVersion(name, version_name(version), content(chance, number, version, name), f"s3://models/{name}.onnx")


@asynccontextmanager
async def registry(folder: Path) -> AsyncIterator[tuple[str, str]]:
    """A PostgreSQL and a registry over it, each a process of its own, as in a mesh: the address of the registry, and
    the URL of the database."""
    (port,) = free_ports(1)
    part = postgres_part(port=port, data_dir=folder / "postgres", log_path=folder / "postgres.log")
    process = await Process.start(part, clock=CLOCK)
    try:
        await process.wait_ready()
        url = database_url(port=port, password=read_password(folder / "postgres"))
        await asyncio.to_thread((folder / "registry").mkdir)
        grpc_port, metrics_port = free_ports(2)
        served = service_part(
            "registry",
            ports={"grpc": grpc_port, "metrics": metrics_port},
            settings={
                "port": grpc_port,
                "metrics_port": metrics_port,
                "database_url": url,
                "data_dir": folder / "registry",
            },
            work_dir=folder / "registry",
            log_path=folder / "registry.log",
        )
        service = await Process.start(served, clock=CLOCK)
        try:
            await service.wait_ready()
            yield f"127.0.0.1:{grpc_port}", url
        finally:
            await service.stop()
    finally:
        await process.stop()


class Questions:
    """The kinds of question, each with values that change from one to the next."""

    def __init__(self, channel: grpc.aio.Channel, world: World, metadata: Sequence[tuple[str, str]]) -> None:
        self._stub = registry_service_pb2_grpc.RegistryServiceStub(channel)
        self._world = world
        self._metadata = metadata

    def kinds(self) -> Mapping[str, Ask]:
        """By name."""
        names, deep = self._world.names, self._deep
        return {
            "name": lambda r: self._ask(name_prefix=r.choice(names)),
            "name prefix, a tenth": lambda r: self._ask(name_prefix=r.choice(SUBJECTS)),
            "one word": lambda r: self._ask(query=r.choice(WORDS)),
            "two words": lambda r: self._ask(query=f"{r.choice(WORDS)} {r.choice(SUBJECTS)}"),
            "word that all have": lambda _: self._ask(query="card"),
            "word of two letters": lambda r: self._ask(query=r.choice(SYLLABLES)),
            "word that none has": lambda r: self._ask(query=f"nothing{r.random()}"),
            "tag": lambda r: self._ask(tags=[r.choice(TAGS)]),
            "two tags": lambda r: self._ask(tags=r.sample(TAGS, 2)),
            "framework and stage": lambda r: self._ask(framework=r.choice(FRAMEWORKS), stage="active"),
            "team": lambda r: self._ask(team=f"team-{r.randrange(TEAMS)}"),
            "alias": lambda _: self._ask(alias="champion"),
            "metric > 0.9": lambda r: self._ask(metrics=[f"{r.choice(METRICS)} > 0.9"]),
            "metric > 0.999": lambda r: self._ask(metrics=[f"{r.choice(METRICS)} > 0.999"]),
            "three metrics": lambda r: self._ask(metrics=[f"{one} > {r.uniform(0.5, 0.9)}" for one in METRICS[:3]]),
            "by metric": lambda r: self._ask(order_by=f"metric:{r.choice(METRICS)} desc"),
            "metric > 0.9 by metric": lambda _: self._ask(metrics=["accuracy > 0.9"], order_by="metric:accuracy desc"),
            "by updated_at": lambda _: self._ask(order_by="updated_at desc"),
            "lineage: a data set": lambda r: self._ask(lineage=[f"dataset:dataset-{r.randrange(DATASETS)}"]),
            "lineage: a person, tag": lambda r: self._ask(
                lineage=[f"person:person-{r.randrange(PEOPLE)}"], tags=[r.choice(TAGS)]
            ),
            "lineage: a version": lambda r: self._ask(lineage=[f"version:{r.choice(names)}@v1.0.0"]),
            "latest only": lambda _: self._ask(latest_only=True),
            "latest only, active": lambda r: self._ask(
                latest_only=True, stage="active", framework=r.choice(FRAMEWORKS)
            ),
            "latest only by metric": lambda _: self._ask(latest_only=True, order_by="metric:accuracy desc"),
            "the page behind 10,000": deep,
        }

    async def _ask(self, **fields: object) -> int:
        request = Search(page_size=50, **fields)  # type: ignore[arg-type]
        return len((await self._stub.SearchModels(request, metadata=self._metadata, timeout=60)).versions)

    async def token(self) -> str:
        """Of the page behind the first 10,000 versions, or what there are."""
        token = ""
        for _ in range(10):
            answer = await self._stub.SearchModels(
                Search(page_size=1000, page_token=token), metadata=self._metadata, timeout=60
            )
            if not answer.next_page_token:
                break
            token = answer.next_page_token
        self._token = token
        return token

    async def _deep(self, _: random.Random) -> int:
        request = Search(page_size=50, page_token=self._token)
        return len((await self._stub.SearchModels(request, metadata=self._metadata, timeout=60)).versions)


async def measured(ask: Ask, times: int) -> tuple[list[float], float]:
    """Milliseconds of each call, sorted, and how much was found on average. The first five are not counted."""
    chance = random.Random(11)
    spent, found = [], []
    for number in range(times + 5):
        began_s = CLOCK.monotonic()
        count = await ask(chance)
        if number >= 5:
            spent.append((CLOCK.monotonic() - began_s) * 1000)
            found.append(count)
    return sorted(spent), statistics.fmean(found)


def at(spent: Sequence[float], share: float) -> str:
    """A quantile, for people."""
    return f"{spent[min(len(spent) - 1, int(len(spent) * share))]:.1f}"


async def followed(channel: grpc.aio.Channel, times: int) -> tuple[list[float], list[float]]:
    """Milliseconds that registrations take, and from the answer of a change to its arrival at a follower."""
    stub = registry_service_pb2_grpc.RegistryServiceStub(channel)
    arrived: dict[str, float] = {}
    ready = asyncio.Event()

    async def follow() -> None:
        async for message in stub.WatchChanges(registry_service_pb2.WatchChangesRequest(resource_types=["version"])):
            ready.set()
            if message.HasField("change"):
                arrived[message.change.resource_name] = CLOCK.monotonic()

    spent, delays, answered = [], [], {}
    async with asyncio.TaskGroup() as tasks:
        follower = tasks.create_task(follow(), name="follower")
        await ready.wait()
        for number in range(times):
            request = registry_service_pb2.CreateModelRequest(
                name=f"registered-{number % 20}", version=f"v1.{number}.0", artifact_uri=DIGITS.as_uri()
            )
            began_s = CLOCK.monotonic()
            made = await stub.CreateModel(request)
            answered[f"{made.model_name}@{made.version}"] = CLOCK.monotonic()
            spent.append((answered[f"{made.model_name}@{made.version}"] - began_s) * 1000)
        async with asyncio.timeout(10):
            while len(arrived) < times:
                await CLOCK.sleep(0.005)
        follower.cancel()
    delays = [(arrived[name] - moment) * 1000 for name, moment in answered.items()]
    return sorted(spent), sorted(delays)


async def run(arguments: argparse.Namespace, console: Console) -> None:
    """Loads, asks, prints."""
    folder = await asyncio.to_thread(_folder)
    try:
        async with registry(folder) as (address, url):
            began_s = CLOCK.monotonic()
            world = await asyncio.to_thread(load, url, arguments.models, arguments.versions)
            settle()
            loaded_s = CLOCK.monotonic() - began_s
            console.print(
                f"{arguments.models} models of {arguments.versions} versions, loaded by COPY in {loaded_s:.0f} s; "
                f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}"
            )
            async with open_channel(address) as channel:
                results = []
                members = [(HEADER_TEAM, "team-7"), (HEADER_ROLE, "viewer")]
                for who, metadata in (("the mesh", []), ("a member", members)):
                    questions = Questions(channel, world, metadata)
                    await questions.token()
                    results.append(await _asked(questions, who, arguments, console))
                if DIGITS.exists():
                    spent, delays = await followed(channel, arguments.times)
                    for name, values in (("registration", spent), ("answer to follower", delays)):
                        figures = "/".join(at(values, share) for share in (0.5, 0.95, 0.99))
                        console.print(f"{name}: p50/p95/p99 {figures} ms")
                        results.append({name: figures})
            if arguments.json:
                await asyncio.to_thread(Path(arguments.json).write_text, json.dumps(results, indent=2) + "\n")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="infermesh-registry-search-"))
    # PostgreSQL may run as another user.
    folder.chmod(0o755)
    return folder


async def _asked(
    questions: Questions, who: str, arguments: argparse.Namespace, console: Console
) -> Mapping[str, object]:
    table = Table("asked as " + who, "found", "p50 ms", "p95 ms", "p99 ms")
    figures: dict[str, object] = {}
    for name, ask in questions.kinds().items():
        if arguments.only and arguments.only not in name:
            continue
        spent, found = await measured(ask, arguments.times)
        table.add_row(name, f"{found:.1f}", at(spent, 0.5), at(spent, 0.95), at(spent, 0.99))
        figures[name] = {"found": found, "p50": at(spent, 0.5), "p95": at(spent, 0.95), "p99": at(spent, 0.99)}
    console.print(table)
    return {who: figures}


def main() -> None:
    """Reads the command line and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=10_000)
    parser.add_argument("--versions", type=int, default=5)
    parser.add_argument("--times", type=int, default=200, help="calls of each kind")
    parser.add_argument("--only", default="", help="only kinds whose name has this in it")
    parser.add_argument("--json", default="", help="a file to write the figures into")
    asyncio.run(run(parser.parse_args(), Console(highlight=False, width=100)))


if __name__ == "__main__":
    main()
