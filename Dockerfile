# Not yet built: no Docker was at hand. Try it before you rely on it.
# Target gateway: the HTTP service with the embedded engine and the shipped model; no torch.
# Target triton: NVIDIA's Triton over the shipped model's repository, for TAMVT_ENGINE=triton.
#   docker build --target gateway -t tamvt-gateway .
#   docker build --target triton -t tamvt-triton .      (BACKEND=onnxruntime, on a GPU)
ARG TRITON_IMAGE=nvcr.io/nvidia/tritonserver:26.09-py3

FROM python:3.12-slim-bookworm AS build
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


# Target trainer: trains, exports and checks a model; with CUDA where the machine has it.
#   docker build --target trainer -t tamvt-trainer .
FROM python:3.12-slim-bookworm AS trainer
LABEL org.opencontainers.image.title="TAM-VT Serve trainer" \
      org.opencontainers.image.licenses="Apache-2.0"
WORKDIR /src
COPY requirements requirements
# torch alone and first: its hash depends on the build that is served.
RUN pip install --no-cache-dir torch==2.13.0 \
    && pip install --no-cache-dir --require-hashes -r requirements/trainer.txt
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY tamvt tamvt
COPY model model
COPY clients clients
RUN pip install --no-cache-dir --no-deps ./clients/python . && rm -rf /src/*
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin tamvt \
    && install -d -o tamvt -g tamvt /runs /models
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    TAMVT_DATA=/data \
    THP_MEM_ALLOC_ENABLE=1 \
    GLIBC_TUNABLES=glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592:glibc.malloc.top_pad=268435456
USER 10001:10001
WORKDIR /runs
VOLUME ["/runs", "/models"]
CMD ["tamvt-model", "train", "--help"]


FROM python:3.12-slim-bookworm AS gateway
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
    THP_MEM_ALLOC_ENABLE=1 \
    GLIBC_TUNABLES=glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592:glibc.malloc.top_pad=268435456

USER 10001:10001
WORKDIR /var/lib/tamvt
VOLUME /var/lib/tamvt
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=2)"]
CMD ["tamvt", "serve", "--host", "0.0.0.0", "--port", "8000"]


FROM build AS repository
ARG BACKEND=python
RUN /opt/tamvt/bin/pip install --no-cache-dir "onnx>=1.23,<2" "onnxscript>=0.7,<1" \
    && /opt/tamvt/bin/tamvt-model export --triton /models --backend "$BACKEND"


FROM ${TRITON_IMAGE} AS triton
LABEL org.opencontainers.image.title="TAM-VT Serve Triton"
# What model.py of the Python backend imports; the GPU backends do without.
RUN pip install --no-cache-dir "numpy>=2,<3" "onnxruntime>=1.20,<2" \
    && install -d -o 10001 -g 10001 /var/cache/tamvt
COPY --from=repository /models /models
# The gateway's user: Triton opens the regions of shared memory that the gateway has made.
USER 10001:10001
VOLUME /var/cache/tamvt
EXPOSE 8001 8002
HEALTHCHECK --interval=10s --timeout=3s --start-period=300s --retries=3 \
    CMD ["curl", "-fsS", "http://127.0.0.1:8002/metrics", "-o", "/dev/null"]
CMD ["tritonserver", "--model-repository=/models", "--disable-auto-complete-config", "--allow-http=false", "--allow-client-shm=true"]
