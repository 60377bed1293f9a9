# `rcnn serve` in a container: docker build -t rcnn . ; with --build-arg VARIANT=gpu for NVIDIA's GPUs. docs/serving.md
# says how to run it.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
ARG VARIANT=cpu
ENV PATH=/opt/rcnn/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/rcnn
# The largest packages first: they stay in the cache of layers when the code changes. PyPI's torch brings CUDA along.
RUN case "$VARIANT" in \
        cpu) index=https://download.pytorch.org/whl/cpu ;; \
        gpu) index=https://download.pytorch.org/whl/cu126 ;; \
        *) echo "VARIANT is cpu or gpu, not $VARIANT" >&2; exit 2 ;; \
    esac \
    && pip install --no-cache-dir --index-url "$index" "torch>=2.5,<3" "torchvision>=0.20,<1"
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY structures structures
COPY proposals proposals
COPY classifier classifier
COPY eval eval
COPY detect detect
# What is installed is this folder, and pyproject.toml bounds the versions of the rest.
# hadolint ignore=DL3013
RUN if [ "$VARIANT" = cpu ]; then extras=serve,openvino; else extras=serve; fi \
    && pip install --no-cache-dir ".[$extras]"

FROM python:${PYTHON}-slim
COPY --from=build /opt/rcnn /opt/rcnn
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin rcnn \
    && install --directory --owner=rcnn /var/cache/rcnn
ENV PATH=/opt/rcnn/bin:$PATH RCNN_CACHE=/var/cache/rcnn PYTHONUNBUFFERED=1
USER 10001
WORKDIR /var/cache/rcnn
EXPOSE 8000
# The first start converts networks before it listens.
HEALTHCHECK --interval=30s --timeout=5s --start-period=5m --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["rcnn"]
CMD ["serve", "--host", "0.0.0.0"]
