# A worker against configured services: without the embedded ones, and under an account of its own.
# The compiled hot path is built beside it, so that the image has no toolchain.
FROM python:3.12-slim AS native
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev
COPY --from=rust:1-slim /usr/local/cargo /usr/local/cargo
COPY --from=rust:1-slim /usr/local/rustup /usr/local/rustup
ENV CARGO_HOME=/usr/local/cargo RUSTUP_HOME=/usr/local/rustup PATH=/usr/local/cargo/bin:$PATH
COPY native native
RUN pip wheel --no-cache-dir --disable-pip-version-check --no-deps --wheel-dir /wheels ./native

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
COPY --from=native /wheels /wheels
RUN PIP_CONSTRAINT=/tmp/constraints.txt pip install --no-cache-dir --disable-pip-version-check . /wheels/*.whl

RUN useradd --system --create-home tidemark && install --directory --owner=tidemark /data
USER tidemark
WORKDIR /data
ENV TIDEMARK_DATA_DIR=/data PYTHONUNBUFFERED=1
VOLUME /data
ENTRYPOINT []
CMD ["tidemark", "worker", "--worker-name", "w1"]
