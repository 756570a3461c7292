# The REST API on NVIDIA GPUs. From the checkout: docker build -f docker/cuda.Dockerfile -t hy3dgen:cuda .
# Needs the NVIDIA container toolkit on the host; torch's wheels bring CUDA itself, so no CUDA image is needed below.
FROM python:3.12-slim-bookworm

# Home is the volume: downloaded weights, jobs and compiled kernels stay when the container goes.
RUN useradd --create-home --home-dir /data --uid 1000 hy3dgen
WORKDIR /app

# Triton builds the launchers of its kernels with a C compiler; without one plain torch does their work.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

COPY requirements.txt requirements-api.txt ./
RUN pip install --no-cache-dir -r requirements-api.txt

COPY LICENSE NOTICE *.py ./
COPY hy3dgen ./hy3dgen

USER 1000
ENV HOME=/data \
    HY3DGEN_MODELS=/data/models \
    NUMBA_CACHE_DIR=/data/.cache/numba \
    PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
VOLUME /data
EXPOSE 8081

HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8081/health', timeout=4)"]

# Inside a container 0.0.0.0 is only what is published. Set HY3DGEN_API_TOKEN before publishing it to others.
ENTRYPOINT ["python", "api_server.py", "--host", "0.0.0.0"]
CMD ["--device", "cuda", "--vram", "auto"]
