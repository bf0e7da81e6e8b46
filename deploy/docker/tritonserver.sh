#!/bin/sh
# Starts Triton over the repository $MODEL_REPOSITORY, as services/supervisor/parts/triton.py does on one machine; what is
# in "$@" comes on top. The process becomes Triton, so that it gets the signals itself.
set -eu
: "${MODEL_REPOSITORY:?the folder that the deployer writes}"
mkdir -p "$MODEL_REPOSITORY"
LIBRARIES=$(/opt/serving/bin/python -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')
export LD_LIBRARY_PATH="/opt/triton/lib:$LIBRARIES${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec /opt/triton/bin/tritonserver \
    --model-repository="$MODEL_REPOSITORY" \
    --model-control-mode=explicit \
    --backend-directory=/opt/triton/backends \
    --http-port="${HTTP_PORT:-8000}" --grpc-port="${GRPC_PORT:-8001}" --metrics-port="${METRICS_PORT:-8002}" \
    --http-address=0.0.0.0 --grpc-address=0.0.0.0 --metrics-address=0.0.0.0 \
    --backend-config=python,shm-region-prefix-name=infermesh- \
    --model-load-thread-count="${LOAD_THREADS:-2}" \
    --exit-timeout-secs="${EXIT_TIMEOUT_S:-20}" \
    --strict-readiness=false \
    --disable-auto-complete-config \
    "$@"
