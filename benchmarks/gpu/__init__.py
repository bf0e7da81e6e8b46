"""The batcher against bare Triton on a model that needs a GPU: a transformer encoder in half precision.

    python -m benchmarks.gpu --python PYTHON

It needs an NVIDIA GPU and an environment with PyTorch (`machine.sh` makes one), and is no part of `make bench`.
"""
