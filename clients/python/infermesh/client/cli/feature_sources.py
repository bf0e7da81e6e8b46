"""Feature sources of jobs as people give them to an option: `FILE=ENTITY`, or JSON with all that a source may say."""

from collections.abc import Sequence

import typer
from google.protobuf import json_format
from infermesh.batch.v1 import batch_job_pb2
from infermesh.client.batch import location
from infermesh.client.cli.documents import read_document

OPTION_SOURCE = "--feature-source"
OPTION_TIME = "--event-time"
_FIELDS = tuple(field.name for field in batch_job_pb2.FeatureSource.DESCRIPTOR.fields)
_SAY = (
    "say FILE=ENTITY, for instance user_stats.parquet=user_id, or a JSON object (also as @FILE) such as "
    '{"uri": "user_stats.parquet", "entity": "user_id", "timestamp_column": "event_timestamp"}'
)


def read_sources(arguments: Sequence[str], event_time: str) -> list[batch_job_pb2.FeatureSource]:
    """The sources, files as absolute paths. Raises typer.BadParameter where one is none, or where of the sources and
    the column with the rows' moments only one is there."""
    if arguments and not event_time:
        raise typer.BadParameter(
            f"{OPTION_SOURCE} needs {OPTION_TIME} COLUMN: the input's column with the moment of each row, so that no "
            "row gets a value that is newer than itself",
            param_hint=OPTION_TIME,
        )
    if event_time and not arguments:
        raise typer.BadParameter(
            f"{OPTION_TIME} {event_time} says nothing without {OPTION_SOURCE} FILE=ENTITY; without both, features that "
            "are no columns are taken from the feature store as they are now",
            param_hint=OPTION_TIME,
        )
    return [_read(argument) for argument in arguments]


def _read(argument: str) -> batch_job_pb2.FeatureSource:
    if argument.startswith(("{", "@")):
        source = _parsed(read_document(argument, OPTION_SOURCE))
    else:
        path, _, entity = argument.rpartition("=")
        source = batch_job_pb2.FeatureSource(uri=path, entity=entity)
    for field, what in (("uri", "file"), ("entity", "column that says whose values they are")):
        if not getattr(source, field):
            raise typer.BadParameter(f"{argument!r} names no {what}; {_SAY}", param_hint=OPTION_SOURCE)
    source.uri = location(source.uri)
    return source


def _parsed(document: dict[str, object]) -> batch_job_pb2.FeatureSource:
    unknown = sorted(document.keys() - set(_FIELDS))
    if unknown:
        raise typer.BadParameter(
            f"{unknown[0]} is no field of a feature source; allowed: {', '.join(_FIELDS)}", param_hint=OPTION_SOURCE
        )
    try:
        return json_format.ParseDict(document, batch_job_pb2.FeatureSource())
    except json_format.ParseError as error:
        raise typer.BadParameter(f"{error}; {_SAY}", param_hint=OPTION_SOURCE) from None
