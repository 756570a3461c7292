# The REST API on a CPU. From the checkout: docker build -f docker/cpu.Dockerfile -t hy3dgen:cpu .
FROM python:3.12-slim-bookworm

# Home is the volume: downloaded weights, jobs and compiled kernels stay when the container goes.
RUN useradd --create-home --home-dir /data --uid 1000 hy3dgen
WORKDIR /app

# The registry's torch brings CUDA, 3 GB that a CPU has no use for.
COPY requirements.txt requirements-api.txt ./
RUN pip install --no-cache-dir torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir -r requirements-api.txt

COPY LICENSE NOTICE *.py ./
COPY hy3dgen ./hy3dgen

USER 1000
ENV HOME=/data \
    HY3DGEN_MODELS=/data/models \
    NUMBA_CACHE_DIR=/data/.cache/numba \
    PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 8081

HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8081/health', timeout=4)"]

# Inside a container 0.0.0.0 is only what is published. Set HY3DGEN_API_TOKEN before publishing it to others.
ENTRYPOINT ["python", "api_server.py", "--host", "0.0.0.0"]
CMD ["--device", "cpu"]
