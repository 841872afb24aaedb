# The index sidecar, without PyTorch. Build it from the repository's root:
#   docker build --file deploy/sidecar.Dockerfile --tag clip-sidecar .
# PIP_EXTRA: more arguments for pip, such as a mirror of the package index.
ARG PYTHON_IMAGE=python:3.11-slim
FROM ${PYTHON_IMAGE}
ARG PIP_EXTRA=""

WORKDIR /srv
COPY deploy/requirements/sidecar.in deploy/requirements/lock.txt requirements/
RUN python -m pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore ${PIP_EXTRA} \
        --constraint requirements/lock.txt --requirement requirements/sidecar.in \
    && site="$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && find "$site/scipy" "$site/sklearn" -type d -name tests -prune -exec rm -r {} +

# The user of TorchServe's container: see there.
RUN useradd --uid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin clip \
    && install --directory --owner clip --group clip --mode 0700 /state /data
COPY index_sidecar/ index_sidecar/
COPY deploy/__init__.py deploy/sidecar.py deploy/watch.py deploy/

ENV HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 PORT=8090 DATA_DIR=/data TORCHSERVE_KEY_FILE=/state/key_file.json
LABEL org.opencontainers.image.title="clip-sidecar" \
    org.opencontainers.image.description="Add, search and recommend on the vectors of a CLIP in TorchServe" \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
EXPOSE 8090
# The container's first process passes signals on to the sidecar, ends with it, and ends it when it answers no more.
CMD ["python", "-m", "deploy.sidecar"]
