#!/bin/sh
# Compiles the bridge between Envoy and Python (services/batcher/bridge/native) into the folder $1, where it changed.
# With the compiler that $CC names, else the machine's own; where it has none, with one out of the package index.
set -eu
cd "$(dirname "$0")/.."
out=$1
native=services/batcher/bridge/native
library=$out/libinfermesh.so

die() { printf 'infermesh: %s\n' "$1" >&2; exit 1; }

compiler=${CC:-}
if [ -z "$compiler" ]; then
    for candidate in cc gcc clang; do
        # A compiler without the C library's headers is none.
        if printf '#include <pthread.h>\n' | "$candidate" -fsyntax-only -x c - 2>/dev/null; then
            compiler=$candidate; break
        fi
    done
fi
digest=$( { echo "${compiler:-zig}"; cat "$native"/* requirements/zig.lock tools/bridge.sh; } | sha256sum | cut -d' ' -f1)
[ -f "$library" ] && [ "$(cat "$out/.stamp" 2>/dev/null || true)" = "$digest" ] && exit 0
echo "setup: the bridge between Envoy and Python (${compiler:-zig cc})"
if [ -z "$compiler" ]; then
    .build/uv/bin/uv venv -q --clear --python .venv/bin/python .build/zig
    .build/uv/bin/uv pip sync -q --python .build/zig/bin/python --require-hashes requirements/zig.lock \
        || die "there is no C compiler, and none can be installed; install one (Debian: gcc and libc6-dev), or name it: make CC=/path/to/cc setup"
    # The C library of a few years ago: what is built so runs on every machine of today.
    compiler=".build/zig/bin/python -m ziglang cc -target x86_64-linux-gnu.2.28"
fi
mkdir -p "$out"
# Beside it and then in its place: a mesh that runs has the old one open.
# Never unloaded: Envoy lets go of it while Python's thread is still returning from it.
$compiler -O2 -g -std=c11 -Wall -Wextra ${BRIDGE_CFLAGS:-} -fPIC -shared -fvisibility=hidden -pthread -Wl,-z,nodelete \
    -o "$library.new" "$native"/*.c || die "cannot compile the bridge; the lines above say why"
mv "$library.new" "$library"
echo "$digest" > "$out/.stamp"
