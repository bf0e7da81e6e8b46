#!/bin/sh
# Links google/api/*.proto and google/rpc/*.proto out of the googleapis-common-protos wheel into .build/googleapis, a module of buf.yaml.
set -eu
cd "$(dirname "$0")/.."
google=$(.venv/bin/python -c 'import google.api, pathlib; print(pathlib.Path(next(iter(google.api.__path__))).parent)')
rm -rf .build/googleapis
mkdir -p .build/googleapis/google/api .build/googleapis/google/rpc
for name in annotations http httpbody field_behavior; do ln -s "$google/api/$name.proto" .build/googleapis/google/api/; done
for name in status error_details code; do ln -s "$google/rpc/$name.proto" .build/googleapis/google/rpc/; done
