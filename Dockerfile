# Compass in a container, without a network at run time:
#
#   docker build -t compass .
#   docker run --rm -v "$PWD:/work" compass optimize --dataset pdbbind
#
# For an NVIDIA card, build on an image that has a torch for it, and hand over the card:
#
#   docker build -t compass --build-arg BASE=pytorch/pytorch:2.10.0-cuda12.8-cudnn9-runtime .
#   docker run --rm --gpus all -v "$PWD:/work" compass doctor
#
# --memory limits the container, and Compass plans within that limit.
ARG BASE=python:3.12-slim-bookworm
FROM ${BASE}

# tcmalloc trains at nearly full speed with half of the default allocator's memory. Its version does not change results.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 libtcmalloc-minimal4 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /compass
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY compass compass
# A torch that the base image has is kept.
RUN if python -c "import torch" 2> /dev/null; then sed -i '/^torch==/d' constraints.txt; fi \
    && pip install --no-cache-dir --constraint constraints.txt '.[parquet,report]' \
    && useradd --create-home --uid 1000 researcher && mkdir /work && chown 1000 /work

USER 1000
WORKDIR /work
ENTRYPOINT ["compass"]
CMD ["--help"]
