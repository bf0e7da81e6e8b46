#!/bin/sh
# Makes .venv (services, tools) and .venv-serving (Triton and the models' frameworks) what the lock files say.
# Quick when nothing changed: each environment holds a stamp with the digest of what it was made from.
set -eu
cd "$(dirname "$0")/.."

die() { printf 'infermesh: %s\n' "$1" >&2; exit 1; }

python=${PYTHON:-}
if [ -z "$python" ]; then
    for candidate in python3.11 python3.12 python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null; then
            python=$candidate; break
        fi
    done
fi
[ -n "$python" ] || die "needs Python 3.11 or 3.12 on PATH; install one, or name it: make PYTHON=/path/to/python3.11 setup"
"$python" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null \
    || die "$python is not Python 3.11 or 3.12; name another: make PYTHON=/path/to/python3.11 setup"
[ "$(uname -sm)" = "Linux x86_64" ] || die "needs Linux on x86-64, because the Triton wheel is built for it alone; this is $(uname -sm)"

uv=.build/uv/bin/uv
if [ ! -x "$uv" ]; then
    echo "setup: uv (the installer)"
    rm -rf .build/uv
    "$python" -m venv .build/uv 2>/dev/null || die "cannot make a virtual environment with $python; install its venv module (Debian: python3-venv)"
    .build/uv/bin/pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.lock 2>.build/uv.log \
        || die "cannot install uv; see .build/uv.log for pip's reason (is the package index reachable?)"
fi

# install NAME FOLDER LOCK... : a virtual environment with exactly what the locks say.
install() {
    name=$1 folder=$2; shift 2
    digest=$( { "$python" -VV; pwd; cat "$@" tools/setup.sh pyproject.toml; } | sha256sum | cut -d' ' -f1)
    [ "$(cat "$folder/.stamp" 2>/dev/null || true)" = "$digest" ] && return 0
    echo "setup: $name"
    rm -f "$folder/.stamp"
    [ -x "$folder/bin/python" ] && "$folder/bin/python" -c '' 2>/dev/null || "$uv" venv -q --clear --python "$python" "$folder"
    "$uv" pip sync -q --python "$folder/bin/python" --require-hashes "$@" \
        || die "cannot install $name; the lines above say which package (is the package index reachable?)"
    if [ "$folder" = .venv ]; then
        "$uv" pip install -q --python .venv/bin/python --no-deps --no-build-isolation --editable . \
            || die "cannot install the project into .venv; the lines above say why"
    fi
    echo "$digest" > "$folder/.stamp"
}
install "services and tools (.venv)" .venv requirements/dev.lock
install "Triton and model frameworks (.venv-serving)" .venv-serving requirements/serving.lock requirements/triton.lock

# The first model: trained here, on data that comes with scikit-learn. Current files are left alone.
.venv-serving/bin/python examples/digits/train.py --out .build/digits > .build/digits.log 2>&1 \
    || die "cannot train the digits model: $(tail -n 1 .build/digits.log); the whole reason is in .build/digits.log"

# Stubs of Envoy's API, out of the Envoy just installed.
.venv/bin/python -m tools.xds_stubs --out .build/xds \
    || die "cannot make the stubs of Envoy's API; the lines above say why"

# The dynamic module by which Envoy and the batcher talk.
sh tools/bridge.sh .build/bridge

# What renders the chart, for its tests.
sh tools/helm.sh .build/helm
