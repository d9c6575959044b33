# A worker against configured services: without the embedded ones, and under an account of its own.
FROM python:3.12-slim

WORKDIR /app
COPY requirements.lock pyproject.toml README.md LICENSE ./
# The locked versions of what a worker needs; the lock's hashes cover every extra, and would pull them all in.
RUN sed -E 's/ *--hash=[^ ]+//; s/ *\\$//' requirements.lock > /tmp/constraints.txt
COPY contracts contracts
COPY domain domain
COPY tables tables
COPY sinks sinks
COPY streams streams
COPY operations operations
RUN PIP_CONSTRAINT=/tmp/constraints.txt pip install --no-cache-dir --disable-pip-version-check .

RUN useradd --system --create-home tidemark && install --directory --owner=tidemark /data
USER tidemark
WORKDIR /data
ENV TIDEMARK_DATA_DIR=/data PYTHONUNBUFFERED=1
VOLUME /data
ENTRYPOINT []
CMD ["tidemark", "worker", "--worker-name", "w1"]
