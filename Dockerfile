# drainproxy as a sidecar image: no build tools, no shell, no root user, and a root filesystem that may be read-only.
#
#   docker build -t drainproxy .            podman build -t drainproxy .            buildah bud -t drainproxy .
#
# docs/image.md: other bases, pinning, several architectures, what is inside.
#
# BASE: any image with glibc and CPython 3.11 or newer; it needs no shell, no pip and no venv.
# BUILD_BASE: where it is put together; has the same python3 at the same path, and the venv module.
# COMPILE: 0 leaves drainproxy pure Python, and needs no C compiler. docs/compiled.md.
# EXTRA: otel adds OpenTelemetry's SDK, for spans. docs/traces.md.
ARG BASE=docker.io/library/python:3.13-slim
ARG BUILD_BASE=${BASE}

FROM ${BUILD_BASE} AS build
ARG EXTRA
# No bytecode by the way: the last step of this stage makes all of it, in one place.
ENV PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
# pip has an environment of its own: the one that is copied below has never had it.
RUN ["python3", "-m", "venv", "/build"]
RUN ["python3", "-m", "venv", "--without-pip", "/opt/drainproxy"]
COPY image ./image
COPY image/requirements${EXTRA:+-$EXTRA}.txt ./requirements.txt
# Exact versions with their hashes, and wheels only: the same build tomorrow, and no C of others.
RUN ["/build/bin/pip", "install", "--no-cache-dir", "--require-hashes", "--only-binary=:all:", \
     "--requirement=image/requirements-build.txt"]
RUN ["/build/bin/pip", "--python=/opt/drainproxy/bin/python3", "install", "--no-cache-dir", "--no-compile", \
     "--require-hashes", "--only-binary=:all:", "--requirement=requirements.txt"]
ARG COMPILE=1
ENV DRAINPROXY_COMPILE=${COMPILE}
RUN ["python3", "image/compiler.py", "/build/bin/pip"]
# What changes most comes last: a change of drainproxy downloads nothing.
COPY setup.py pyproject.toml README.md LICENSE ./
COPY drainproxy ./drainproxy
RUN ["/build/bin/pip", "wheel", "--no-cache-dir", "--no-deps", "--no-build-isolation", "--wheel-dir=/wheels", "."]
RUN ["/build/bin/pip", "--python=/opt/drainproxy/bin/python3", "install", "--no-compile", "--no-deps", "--no-index", \
     "--find-links=/wheels", "drainproxy"]
RUN ["/build/bin/pip", "--python=/opt/drainproxy/bin/python3", "check"]
# Bytecode of the standard library too: most bases come without it, and a read-only root never gets it.
RUN ["/opt/drainproxy/bin/python3", "image/bytecode.py", "/opt/drainproxy/bytecode"]

FROM ${BASE}
# Who builds says what it is of: docs/image.md. Without, the labels are empty.
ARG BASE
ARG BASE_DIGEST
ARG VERSION
ARG REVISION
ARG SOURCE
LABEL org.opencontainers.image.title="drainproxy" \
      org.opencontainers.image.description="A sidecar reverse proxy that gives graceful shutdown to apps you cannot change" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}"
COPY --from=build /opt/drainproxy /opt/drainproxy
ENV PATH=/opt/drainproxy/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPYCACHEPREFIX=/opt/drainproxy/bytecode \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A number, so that runAsNonRoot can be checked; the owner of nothing.
USER 65532:65532
EXPOSE 9080 9081
# The kubelet's SIGTERM drains; docker stop sends the same.
STOPSIGNAL SIGTERM
# For Docker and Compose; Kubernetes asks /livez and /readyz, and the OCI format has no place for this.
HEALTHCHECK --interval=30s --timeout=5s CMD ["/opt/drainproxy/bin/drainproxy", "status"]
ENTRYPOINT ["/opt/drainproxy/bin/drainproxy"]
CMD ["serve"]
