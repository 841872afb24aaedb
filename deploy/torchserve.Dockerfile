# TorchServe, its Java and what clip.mar needs; the archive itself is mounted. Build it from the repository's root:
#   docker build --file deploy/torchserve.Dockerfile --tag clip-torchserve .
#
# TORCH is the PyTorch to install: a build of the version in lock.txt. `torch` takes the package index's own, on x86-64
# the CUDA build: it runs without a GPU as well, but makes an image of several GB. For the CPU build name it, and the
# index that PyTorch's installation page gives for it, VERSION being as in lock.txt:
#   --build-arg TORCH=torch==VERSION+cpu --build-arg PIP_EXTRA="--extra-index-url URL"
# PIP_EXTRA is handed to every pip install: here belongs a mirror of the package index, too.
ARG PYTHON_IMAGE=python:3.11-slim
FROM ${PYTHON_IMAGE}
ARG TORCH=torch
ARG PIP_EXTRA=""

WORKDIR /srv/requirements
COPY deploy/requirements/torchserve.in deploy/requirements/lock.txt ./
# As in the Makefile: torch by itself, and rf-clip without the torchvision it asks for. What serving never reads does not
# come along: PyTorch's headers, tests and tools, OpenVINO's plugins for other devices and readers of other formats.
RUN pip="python -m pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore ${PIP_EXTRA}" \
    && $pip --constraint lock.txt "${TORCH}" \
    && grep -vE '^(#|torch==|rf-clip)' torchserve.in > rest.in \
    && $pip --constraint lock.txt --requirement rest.in \
    && $pip --no-deps "$(grep '^rf-clip' torchserve.in)" \
    && site="$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && rm -rf "$site/torch/include" "$site/torch/test" \
    && find "$site/torch/bin" -type f ! -name torch_shm_manager -delete \
    && find "$site/openvino/libs" -type f \( -name '*_gpu_plugin.so*' -o -name '*_npu_plugin.so*' -o -name cache.json \
        -o -name '*_frontend.so*' ! -name '*_ir_frontend.so*' \) -delete

WORKDIR /srv
# The sidecar's container has the same user: it reads the key file, which only its owner may. A named volume takes its
# first owner from the folder it covers.
RUN useradd --uid 10001 --home-dir /tmp --no-create-home --shell /usr/sbin/nologin clip \
    && install --directory --owner clip --group clip --mode 0700 /state
COPY config.properties ./
COPY handler/ handler/
COPY deploy/__init__.py deploy/predicts.py deploy/serve.py deploy/watch.py deploy/

ENV HOME=/tmp PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
LABEL org.opencontainers.image.title="clip-torchserve" \
    org.opencontainers.image.description="CLIP ViT-B/32 in TorchServe, without the model: clip.mar is mounted" \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
EXPOSE 8080
# The container's first process passes signals on to TorchServe, ends with it, and ends it when it predicts no more.
CMD ["python", "-m", "deploy.serve", "--state", "/state", "--model-store", "/model_store"]
