# The command line in a container, for CPUs. Not built so far: written where there is no Docker.
#   docker build -t infoseg .
#   docker run --rm -v "$PWD":/work infoseg train --images holiday --classes 4
FROM python:3.11-slim

WORKDIR /opt/infoseg
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY infoseg infoseg
# PyTorch's index for CPUs saves 2 GB of CUDA libraries. Versions are those of the lock file.
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu \
      "$(grep '^torch==' requirements.lock)" && \
    pip install --no-cache-dir --constraint requirements.lock .

WORKDIR /work
ENTRYPOINT ["infoseg"]
