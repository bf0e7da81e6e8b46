#!/bin/sh
# Makes the environment that `python -m benchmarks.gpu` lets the model run in: Triton's wheel, numpy 1 and PyTorch.
# Some 5 GB; a machine with an NVIDIA driver of CUDA 13 needs nothing else.
set -eu
cd "$(dirname "$0")/../.."
uv=.build/uv/bin/uv
out=.build/bench/gpu-env
"$uv" venv -q --clear --python .venv/bin/python "$out"
"$uv" pip install -q --python "$out/bin/python" -r requirements/triton.lock --no-deps
"$uv" pip install -q --python "$out/bin/python" numpy==1.26.4 torch==2.11.0
echo "$out/bin/python"
