# syntax=docker/dockerfile:1
# What models run on, in two images that share most of their layers: Triton, and the deployer, which makes environments
# for the same Python and quantises in it.
#   docker build -f deploy/docker/serving.Dockerfile --target triton -t infermesh/triton .
#   docker build -f deploy/docker/serving.Dockerfile --target deployer -t infermesh/deployer .
# The two are built and rolled out together: environments link to the Python at the same place in both.
ARG PYTHON_TAG=3.11.14
ARG PYTHON_DIGEST

FROM python:${PYTHON_TAG}-bookworm AS build
WORKDIR /build
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
COPY requirements/uv.lock requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/uv.lock
COPY requirements/serving.lock requirements/triton.lock requirements/
RUN uv venv -q --python /usr/local/bin/python3 /opt/serving \
    && uv pip sync -q --python /opt/serving/bin/python --require-hashes requirements/serving.lock requirements/triton.lock
COPY deploy/docker/triton_backends.sh /build/
RUN sh /build/triton_backends.sh /opt/serving /opt/triton
COPY requirements/images/deployer.lock requirements/images/
RUN uv venv -q --python /usr/local/bin/python3 /opt/infermesh/venv \
    && uv pip sync -q --python /opt/infermesh/venv/bin/python --require-hashes requirements/images/deployer.lock
COPY protos/gen/python /opt/infermesh/app/protos
COPY services/__init__.py /opt/infermesh/app/services/
COPY services/common /opt/infermesh/app/services/common
COPY services/deployer /opt/infermesh/app/services/deployer
COPY deploy/triton /opt/infermesh/app/deploy/triton
COPY requirements/frameworks /opt/infermesh/app/requirements/frameworks
# The runner is copied into packages as it is, so no bytecode may lie beside it.
RUN python -m compileall -q --invalidation-mode unchecked-hash /opt/infermesh/app/services /opt/infermesh/app/protos

FROM python:${PYTHON_TAG}-slim-bookworm${PYTHON_DIGEST:+@${PYTHON_DIGEST}} AS triton
LABEL org.opencontainers.image.title="infermesh triton" \
      org.opencontainers.image.description="NVIDIA Triton with its python backend, for the models of infermesh"
# LightGBM's wheels bring no libgomp. The base's tag says which Debian, and that has one version of it.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
COPY --from=build /opt/serving /opt/serving
COPY --from=build /opt/triton /opt/triton
COPY deploy/docker/tritonserver.sh /opt/triton/bin/
ENV PATH=/opt/serving/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 LANG=C.UTF-8 TZ=UTC HOME=/tmp OMP_NUM_THREADS=1
WORKDIR /tmp
USER 65532:65532
ENTRYPOINT ["/bin/sh", "/opt/triton/bin/tritonserver.sh"]

FROM triton AS deployer
LABEL org.opencontainers.image.title="infermesh deployer" \
      org.opencontainers.image.description="The deployer of infermesh, with the Python that models run on"
COPY --from=build /opt/infermesh /opt/infermesh
ENV PATH=/opt/infermesh/venv/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPATH=/opt/infermesh/app:/opt/infermesh/app/protos \
    INFERMESH_DEPLOYER_SERVING_PYTHON=/opt/serving/bin/python \
    PYTHONUNBUFFERED=1
ENTRYPOINT ["python", "-m"]
CMD ["services.deployer"]
