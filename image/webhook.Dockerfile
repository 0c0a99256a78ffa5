# `drainproxy webhook` as an image: the sidecar's image is without the commands and packages that it needs.
#
#   docker build -t drainproxy-webhook -f image/webhook.Dockerfile .
#
# BASE, BUILD_BASE: as in the Dockerfile of the sidecar.
ARG BASE=docker.io/library/python:3.13-slim
ARG BUILD_BASE=${BASE}

FROM ${BUILD_BASE} AS build
ENV PYTHONDONTWRITEBYTECODE=1
WORKDIR /src
RUN ["python3", "-m", "venv", "/build"]
RUN ["python3", "-m", "venv", "--without-pip", "/opt/drainproxy"]
COPY image ./image
RUN ["/build/bin/pip", "install", "--no-cache-dir", "--require-hashes", "--only-binary=:all:", \
     "--requirement=image/requirements-build.txt"]
RUN ["/build/bin/pip", "--python=/opt/drainproxy/bin/python3", "install", "--no-cache-dir", "--no-compile", \
     "--require-hashes", "--only-binary=:all:", "--requirement=image/requirements-webhook.txt"]
COPY pyproject.toml README.md LICENSE ./
COPY drainproxy ./drainproxy
RUN ["/build/bin/pip", "wheel", "--no-cache-dir", "--no-deps", "--no-build-isolation", "--wheel-dir=/wheels", "."]
RUN ["/build/bin/pip", "--python=/opt/drainproxy/bin/python3", "install", "--no-compile", "--no-deps", "--no-index", \
     "--find-links=/wheels", "drainproxy"]
RUN ["/build/bin/pip", "--python=/opt/drainproxy/bin/python3", "check"]
# The root is read-only when it runs: what is not compiled here is compiled anew at every start.
RUN ["/opt/drainproxy/bin/python3", "image/bytecode.py", "/opt/drainproxy/bytecode"]

FROM ${BASE}
LABEL org.opencontainers.image.title="drainproxy-webhook" \
      org.opencontainers.image.description="Adds drainproxy to Pods as the cluster creates them" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/drainproxy /opt/drainproxy
ENV PATH=/opt/drainproxy/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONPYCACHEPREFIX=/opt/drainproxy/bytecode \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 8443 8081
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/drainproxy/bin/drainproxy"]
CMD ["webhook"]
