# Not built: no Docker was at hand. `make check-images` runs each stage's steps in a clean virtual
# environment, on this machine's Python and without NVIDIA's image. Try it before you rely on it.
# Target gateway: the HTTP service with the embedded engine and the shipped model; no torch.
# Target trainer: trains, exports and checks a model; with CUDA where the machine has it.
# Target triton: NVIDIA's Triton over the shipped model's repository, for TAMVT_ENGINE=triton.
#   docker build --target gateway -t tamvt-gateway .
#   docker build --target triton -t tamvt-triton .      (BACKEND=onnxruntime or tensorrt, on a GPU)
# Every package comes from a lock with its hashes; the two images below by an exact version, or by
# the digest that you give: --build-arg PYTHON_IMAGE=python@sha256:...
ARG PYTHON_IMAGE=python:3.12.12-slim-bookworm
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:26.09-py3

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
RUN python -m venv /opt/tamvt
COPY requirements requirements
# Among them a Redis, for a container that is started without TAMVT_REDIS_URL.
RUN /opt/tamvt/bin/pip install --no-cache-dir --require-hashes -r requirements/gateway.txt
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY tamvt tamvt
COPY model model
COPY clients clients
RUN /opt/tamvt/bin/pip install --no-cache-dir --no-deps ./clients/python .


FROM ${PYTHON_IMAGE} AS trainer
LABEL org.opencontainers.image.title="TAM-VT Serve trainer" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin tamvt \
    && install -d -o tamvt -g tamvt /runs /models
WORKDIR /src
RUN python -m venv /opt/tamvt
COPY requirements requirements
# torch alone and first: its hash depends on the build that is served.
RUN /opt/tamvt/bin/pip install --no-cache-dir torch==2.13.0 \
    && /opt/tamvt/bin/pip install --no-cache-dir --require-hashes -r requirements/trainer.txt
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY tamvt tamvt
COPY model model
COPY clients clients
RUN /opt/tamvt/bin/pip install --no-cache-dir --no-deps ./clients/python . && rm -rf /src/*
ENV PATH=/opt/tamvt/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    TAMVT_DATA=/data \
    ORT_DISABLE_TELEMETRY=1 \
    THP_MEM_ALLOC_ENABLE=1 \
    GLIBC_TUNABLES=glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592:glibc.malloc.top_pad=268435456
USER 10001:10001
WORKDIR /runs
VOLUME ["/runs", "/models"]
# It serves nobody: it works until it is done.
HEALTHCHECK NONE
CMD ["tamvt-model", "train", "--help"]


FROM ${PYTHON_IMAGE} AS gateway
LABEL org.opencontainers.image.title="TAM-VT Serve gateway" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin tamvt \
    && install -d -o tamvt -g tamvt /var/lib/tamvt
COPY --from=build /opt/tamvt /opt/tamvt

# The last two keep large buffers instead of page-faulting them in for every inference.
ENV PATH=/opt/tamvt/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TAMVT_STATE=/var/lib/tamvt \
    ORT_DISABLE_TELEMETRY=1 \
    THP_MEM_ALLOC_ENABLE=1 \
    GLIBC_TUNABLES=glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592:glibc.malloc.top_pad=268435456

USER 10001:10001
WORKDIR /var/lib/tamvt
VOLUME /var/lib/tamvt
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
CMD ["tamvt", "serve", "--host", "0.0.0.0", "--port", "8000"]


# Writes the shipped model's repository; what it installs for that stays behind.
FROM build AS repository
ARG BACKEND=python
RUN /opt/tamvt/bin/pip install --no-cache-dir --require-hashes -r requirements/trainer.txt \
    && /opt/tamvt/bin/tamvt-model export --triton /models --backend "$BACKEND"


FROM ${TRITON_IMAGE} AS triton
LABEL org.opencontainers.image.title="TAM-VT Serve Triton"
COPY requirements/backend.txt /opt/tamvt/
# What model.py of the Python backend imports; the GPU backends do without.
RUN pip install --no-cache-dir --break-system-packages --require-hashes -r /opt/tamvt/backend.txt \
    && install -d -o 10001 -g 10001 /var/cache/tamvt
COPY --from=repository /models /models
COPY deploy/triton/build_engine.sh /opt/tamvt/
# The gateway's user: Triton opens the regions of shared memory that the gateway has made.
USER 10001:10001
ENV ORT_DISABLE_TELEMETRY=1
VOLUME /var/cache/tamvt
EXPOSE 8001 8002
HEALTHCHECK --interval=10s --timeout=3s --start-period=300s --retries=3 \
    CMD ["curl", "-fsS", "http://127.0.0.1:8002/metrics", "-o", "/dev/null"]
CMD ["tritonserver", "--model-repository=/models", "--disable-auto-complete-config", "--allow-http=false", "--allow-client-shm=true"]
