# Two stages: the first installs what the lock file names, the second takes the result and ffmpeg.

FROM python:3.13-slim-trixie AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /srv/mediavault
RUN python -m venv /opt/mediavault
ENV PATH=/opt/mediavault/bin:$PATH
COPY requirements.lock ./
RUN pip install --quiet --require-hashes -r requirements.lock
COPY pyproject.toml README.md ./
COPY app ./app
RUN pip install --quiet --no-deps --editable . \
    && python -m compileall -q app

FROM python:3.13-slim-trixie
# Security updates of ffmpeg matter more than a fixed version, which Debian withdraws.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ffmpeg \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin mediavault \
    && install --directory --owner=mediavault --group=mediavault --mode=0750 /data
COPY --from=build /opt/mediavault /opt/mediavault
COPY --from=build /srv/mediavault /srv/mediavault
ENV PATH=/opt/mediavault/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    IMMICH_HOST=0.0.0.0 \
    IMMICH_PORT=2283 \
    IMMICH_MEDIA_LOCATION=/data/media \
    MEDIAVAULT_STAGING_FOLDER=/data/staging \
    DB_URL=sqlite:////data/catalogue.db
USER 1000:1000
WORKDIR /data
VOLUME /data
EXPOSE 2283
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['IMMICH_PORT']}/livez\", timeout=4)"]
CMD ["mediavault", "serve"]
