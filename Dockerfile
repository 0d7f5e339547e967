# `restore serve` in a container.
#
#   docker build -t restore .                                                                for processors
#   docker build -t restore --build-arg TORCH=https://download.pytorch.org/whl/cu128 .       for CUDA
#   docker run --rm -p 127.0.0.1:8421:8421 restore                                           (CUDA: --gpus all)
#
# It listens on all addresses of the container, so it asks for a token: the one that it prints, or RESTORE_TOKEN.
# Weights that are downloaded (-m NAME) are kept in the volume /weights.

FROM python:3.12-slim AS wheel
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY . /source
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel /source

FROM python:3.12-slim
ARG TORCH=https://download.pytorch.org/whl/cpu
RUN apt-get update && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 libgomp1 \
    && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir --index-url "$TORCH" torch torchvision
RUN --mount=from=wheel,source=/wheel,target=/wheel \
    wheel="$(ls /wheel/*.whl)" && pip install --no-cache-dir "${wheel}[serve,foreign,heif]"
RUN useradd --create-home restore && install -d -o restore /weights
USER restore
ENV RESTORE_CACHE=/weights PYTHONUNBUFFERED=1
VOLUME /weights
EXPOSE 8421
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8421/api/health', timeout=5)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["restore", "serve", "--host", "0.0.0.0"]
