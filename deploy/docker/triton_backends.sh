#!/bin/sh
# Makes $2/backends and $2/lib out of the Triton in the virtual environment $1: links, so that libraries are found beside
# their targets. The image knows these paths alone, whatever the wheel is called inside.
set -eu
packages=$(echo "$1"/lib/python3.*/site-packages)
version=$("$1/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
server=$packages/pytriton/tritonserver
mkdir -p "$2/backends/python" "$2/bin"
for target in \
    "$server/backends/python/libtriton_python.so" \
    "$server/backends/python/triton_python_backend_utils.py" \
    "$server/python_backend_stubs/$version/triton_python_backend_stub" \
    "$server/bin/tritonserver"
do
    [ -e "$target" ] || { echo "nvidia-pytriton has no $target" >&2; exit 1; }
done
ln -s "$server/backends/python/libtriton_python.so" "$server/backends/python/triton_python_backend_utils.py" \
    "$server/python_backend_stubs/$version/triton_python_backend_stub" "$2/backends/python/"
ln -s "$server/bin/tritonserver" "$2/bin/tritonserver"
ln -s "$packages/nvidia_pytriton.libs" "$2/lib"
