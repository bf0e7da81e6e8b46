"""Reads configurations by Triton's own ModelConfig, as `tritonclient` brings it, and prints them as JSON by file name.

    python -m tests.support.parse_triton_configs FOLDER

A process of its own: the mesh has messages of the same names, and a process knows one of each.
"""

import json
import sys
from pathlib import Path

from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2


def main() -> None:
    """Ends with the parser's own words where a file has what ModelConfig has not."""
    read = {}
    for file in sorted(Path(sys.argv[1]).glob("*.pbtxt")):
        try:
            config = text_format.Parse(file.read_text(), model_config_pb2.ModelConfig())
        except text_format.ParseError as error:
            sys.exit(f"{file.name}: {error}")
        read[file.stem] = json_format.MessageToDict(config, preserving_proto_field_name=True)
    sys.stdout.write(json.dumps(read))


if __name__ == "__main__":
    main()
