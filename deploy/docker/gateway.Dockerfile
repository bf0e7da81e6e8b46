# syntax=docker/dockerfile:1
# The path of a prediction: Envoy, the batcher that it carries by the bridge compiled here, and the keeper.
#   docker build -f deploy/docker/gateway.Dockerfile -t infermesh/gateway .
# gateway.py starts a gateway, `python -m services.batcher` a batcher, `python -m services.gateway` a keeper.
ARG PYTHON_TAG=3.11.14
ARG PYTHON_DIGEST

FROM python:${PYTHON_TAG}-bookworm AS build
WORKDIR /build
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
COPY requirements/uv.lock requirements/zig.lock requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/uv.lock
COPY requirements/images/gateway.lock requirements/images/stubs.lock requirements/images/
RUN uv venv -q --python /usr/local/bin/python3 /opt/infermesh/venv \
    && uv pip sync -q --python /opt/infermesh/venv/bin/python --require-hashes requirements/images/gateway.lock \
    && uv venv -q --python /usr/local/bin/python3 /build/venv \
    && uv pip sync -q --python /build/venv/bin/python --require-hashes requirements/images/stubs.lock
COPY tools/xds_stubs.py tools/bridge.sh tools/
COPY services/batcher/bridge/native services/batcher/bridge/native
# The image that is built from here on has glibc of the same release, so what is linked here runs there.
RUN /build/venv/bin/python -m tools.xds_stubs --out /build/xds \
    && CC=gcc BRIDGE_CFLAGS=-Werror sh tools/bridge.sh /opt/infermesh/bridge
COPY protos/gen/python /opt/infermesh/app/protos
COPY services/__init__.py /opt/infermesh/app/services/
COPY services/common /opt/infermesh/app/services/common
COPY services/batcher /opt/infermesh/app/services/batcher
COPY services/gateway /opt/infermesh/app/services/gateway
COPY deploy/envoy/bootstrap.yaml /opt/infermesh/envoy/
COPY deploy/docker/gateway.py deploy/docker/probe.py /opt/infermesh/bin/
RUN cp -r /build/xds/python /opt/infermesh/app/xds \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/infermesh/app

FROM python:${PYTHON_TAG}-slim-bookworm${PYTHON_DIGEST:+@${PYTHON_DIGEST}}
LABEL org.opencontainers.image.title="infermesh gateway" \
      org.opencontainers.image.description="Gateway, batcher and keeper of infermesh: the path of a prediction"
COPY --from=build /opt/infermesh /opt/infermesh
ENV PATH=/opt/infermesh/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/opt/infermesh/app:/opt/infermesh/app/protos:/opt/infermesh/app/xds \
    INFERMESH_BRIDGE_FOLDER=/opt/infermesh/bridge \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 LANG=C.UTF-8 TZ=UTC HOME=/tmp
WORKDIR /tmp
USER 65532:65532
ENTRYPOINT ["python"]
CMD ["/opt/infermesh/bin/gateway.py"]
