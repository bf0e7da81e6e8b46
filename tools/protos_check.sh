#!/bin/sh
# Contracts lint-clean, compatible with main's, and the committed stubs what they generate.
set -eu
cd "$(dirname "$0")/.."
sh tools/link_googleapis.sh
export PATH="$PWD/.venv/bin:$PATH"
buf lint
for base in origin/main main HEAD; do
    git cat-file -e "$base:buf.yaml" 2>/dev/null || continue
    rm -rf .build/base && mkdir -p .build/base
    git archive "$base" buf.yaml protos | tar -x -C .build/base
    mkdir -p .build/base/.build && cp -rL .build/googleapis .build/base/.build/googleapis
    buf breaking --against .build/base
    break
done
rm -rf .build/fresh
sh tools/protos.sh .build/fresh
diff -r -x __pycache__ .build/fresh protos/gen/python \
    || { echo "protos/gen/python is not what protos/ generates: run make protos and commit the result" >&2; exit 1; }
