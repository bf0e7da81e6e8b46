#!/bin/sh
# Regenerates protos/gen/python from protos/. With a folder as argument, generates there instead (for the freshness check).
set -eu
cd "$(dirname "$0")/.."
sh tools/link_googleapis.sh
export PATH="$PWD/.venv/bin:$PATH"
if [ $# -gt 0 ]; then
    sed "s|out: protos/gen/python|out: $1|" buf.gen.python.yaml > .build/buf.gen.check.yaml
    exec buf generate --template .build/buf.gen.check.yaml
fi
exec buf generate --template buf.gen.python.yaml
