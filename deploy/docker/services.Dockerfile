# syntax=docker/dockerfile:1
# The services without models: registry, router, batch, monitor, limiter, operator; each is `python -m services.<name>`.
#   docker build -f deploy/docker/services.Dockerfile -t infermesh/services .
# PYTHON_DIGEST pins the base to the very image that was tested: --build-arg PYTHON_DIGEST=sha256:…
ARG PYTHON_TAG=3.11.14
ARG PYTHON_DIGEST

FROM python:${PYTHON_TAG}-bookworm AS build
WORKDIR /build
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
COPY requirements/uv.lock requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/uv.lock
COPY requirements/images/services.lock requirements/images/stubs.lock requirements/images/
RUN uv venv -q --python /usr/local/bin/python3 /opt/infermesh/venv \
    && uv pip sync -q --python /opt/infermesh/venv/bin/python --require-hashes requirements/images/services.lock \
    && uv venv -q --python /usr/local/bin/python3 /build/venv \
    && uv pip sync -q --python /build/venv/bin/python --require-hashes requirements/images/stubs.lock
COPY tools/xds_stubs.py tools/
RUN /build/venv/bin/python -m tools.xds_stubs --out /build/xds
COPY protos/gen/python /opt/infermesh/app/protos
COPY services/__init__.py /opt/infermesh/app/services/
COPY services/common /opt/infermesh/app/services/common
COPY services/batch /opt/infermesh/app/services/batch
COPY services/limiter /opt/infermesh/app/services/limiter
COPY services/monitor /opt/infermesh/app/services/monitor
COPY services/operator /opt/infermesh/app/services/operator
COPY services/registry /opt/infermesh/app/services/registry
COPY services/router /opt/infermesh/app/services/router
RUN cp -r /build/xds/python /opt/infermesh/app/xds \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/infermesh/app

FROM python:${PYTHON_TAG}-slim-bookworm${PYTHON_DIGEST:+@${PYTHON_DIGEST}}
LABEL org.opencontainers.image.title="infermesh services" \
      org.opencontainers.image.description="Registry, router, batch, monitor, limiter and operator of infermesh"
COPY --from=build /opt/infermesh /opt/infermesh
ENV PATH=/opt/infermesh/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/opt/infermesh/app:/opt/infermesh/app/protos:/opt/infermesh/app/xds \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 LANG=C.UTF-8 TZ=UTC HOME=/tmp
WORKDIR /tmp
USER 65532:65532
ENTRYPOINT ["python", "-m"]
CMD ["services.registry"]
