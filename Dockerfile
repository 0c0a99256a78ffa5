# drainproxy as a sidecar image: no build tools, no shell needed, nobody is root, the root filesystem may be read-only.
#
#   docker build -t drainproxy .            podman build -t drainproxy .            buildah bud -t drainproxy .
#
# BASE is any image with CPython 3.11 or newer and glibc; both stages use it, so that the virtual environment fits.
ARG BASE=docker.io/library/python:3.13-slim

FROM ${BASE} AS build
WORKDIR /src
COPY pyproject.toml README.md ./
COPY drainproxy ./drainproxy
# --only-binary: uvloop and aiohttp come as wheels, so the build needs no compiler. Compiling here saves the cold start.
RUN ["python3", "-m", "venv", "/opt/drainproxy"]
RUN ["/opt/drainproxy/bin/pip", "install", "--no-cache-dir", "--prefer-binary", "."]
RUN ["/opt/drainproxy/bin/pip", "uninstall", "--yes", "pip", "setuptools"]
RUN ["python3", "-m", "compileall", "-q", "/opt/drainproxy/lib"]

FROM ${BASE}
COPY --from=build /opt/drainproxy /opt/drainproxy
ENV PATH=/opt/drainproxy/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A number, so that runAsNonRoot can be checked; the owner of nothing.
USER 65532:65532
EXPOSE 9080 9081
# The kubelet's SIGTERM drains; docker stop sends the same.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/drainproxy/bin/drainproxy"]
CMD ["serve"]
