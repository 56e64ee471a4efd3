# probe with its engines for the CPU, made of this clone: `docker build -t probe .`
# How it is used: docs/howto.md, "It should run in a container".

FROM python:3.11-slim-bookworm AS wheel
COPY . /clone
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel /clone

FROM python:3.11-slim-bookworm
# of MXNet, whose wheel does not bring them; Debian keeps no older versions to name
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 libquadmath0 \
    && rm -rf /var/lib/apt/lists/*
ARG EXTRAS=demo,serve
COPY constraints.txt /wheel/
COPY --from=wheel /wheel /wheel
RUN pip install --no-cache-dir --constraint /wheel/constraints.txt \
        "frozen-probe[$EXTRAS] @ file://$(echo /wheel/*.whl)" \
    && rm -r /wheel \
    && useradd --create-home --uid 1000 probe \
    && install --directory --owner probe --mode 1777 /cache /data
ENV PROBE_CACHE=/cache MPLCONFIGDIR=/tmp/matplotlib
USER 1000
WORKDIR /data
VOLUME ["/cache", "/data"]
ENTRYPOINT ["probe"]
CMD ["--help"]
