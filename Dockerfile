# The base image is pinned by tag; pin it by digest where builds must be repeatable:
#   docker build --build-arg PYTHON_IMAGE=python:3.13-slim-bookworm@sha256:... .
ARG PYTHON_IMAGE=python:3.13-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# What is installed at run time, in a virtual environment without pip. The tests that packages bring are left out; their
# lists of files (RECORD) stay as they are.
COPY requirements.lock ./
RUN python -m venv --without-pip /opt/engine-ops \
    && python -m pip --python /opt/engine-ops/bin/python install --no-compile --only-binary :all: --require-hashes \
       -r requirements.lock \
    && find /opt/engine-ops/lib -depth -type d '(' -name tests -o -name test ')' -exec rm -r '{}' ';'

# What the wheel is built with, locked too; it stays in this stage.
COPY requirements-build.lock ./
RUN python -m venv /opt/build \
    && /opt/build/bin/python -m pip install --only-binary :all: --require-hashes -r requirements-build.lock

COPY pyproject.toml README.md LICENSE ./
COPY operator operator
RUN /opt/build/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && python -m pip --python /opt/engine-ops/bin/python install --no-compile --no-deps --no-index dist/*.whl

# Bytecode of what is imported, and of nothing else: the root is read-only where it runs, so that each start would compile
# it anew, which takes two to six times as long. What pip would compile is nearly three times as large.
RUN /opt/engine-ops/bin/python -c "import importlib, pkgutil, engine_ops; from engine_ops.plugins.host import preload; \
    names = [module.name for module in pkgutil.walk_packages(engine_ops.__path__, 'engine_ops.')]; \
    [importlib.import_module(name) for name in names if 'devcluster' not in name]; \
    preload.preload()"

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="engine-ops" \
      org.opencontainers.image.description="Optimisation questions as Kubernetes resources, answered with proof" \
      org.opencontainers.image.licenses="Apache-2.0"
# The users, the operator's and the plugins', have names so that they can be looked up; Kubernetes goes by the numbers.
RUN python -m pip uninstall --yes --quiet --root-user-action ignore pip \
    && echo "engine-ops:x:65532:65532::/nonexistent:/usr/sbin/nologin" >> /etc/passwd \
    && echo "engine-ops-plugins:x:65533:65532::/nonexistent:/usr/sbin/nologin" >> /etc/passwd \
    && echo "engine-ops:x:65532:" >> /etc/group
COPY --from=build /opt/engine-ops /opt/engine-ops
ENV PATH=/opt/engine-ops/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
ENTRYPOINT ["engine-ops"]
CMD ["run", "--probes", "http://0.0.0.0:8080/healthz"]
