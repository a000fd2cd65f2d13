# Two stages: the first installs the packages of the lock files, the second copies them and adds ffmpeg.

FROM python:3.13-slim-trixie AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements.lock requirements-build.lock ./
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends binutils \
    && rm -rf /var/lib/apt/lists/* \
    && python -m venv --without-pip /opt/mediavault \
    && python -m venv /opt/build \
    && /opt/build/bin/pip install --quiet --only-binary=:all: --require-hashes -r requirements-build.lock \
    && /opt/build/bin/pip --python /opt/mediavault/bin/python install --quiet --only-binary=:all: --require-hashes -r requirements.lock
COPY pyproject.toml README.md ./
COPY app ./app
# Saves space: of the SDK's descriptions of some 400 services, only those of S3 and of the credential providers stay. Translated messages,
# other databases, tests of packages and numpy's build tools go. Debug symbols are stripped except in bundled libraries (….libs), which strip would break.
# hadolint ignore=DL3003
RUN /opt/build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/build/bin/pip --python /opt/mediavault/bin/python install --quiet --no-deps dist/*.whl \
    && find /opt/mediavault/lib/python3*/site-packages/botocore/data -mindepth 1 -maxdepth 1 -type d \
        ! -name s3 ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -r {} + \
    && cd /opt/mediavault/lib/python3*/site-packages \
    && find alembic croniter greenlet mako numpy -type d \( -name tests -o -name testing \) -prune ! -path numpy/testing -exec rm -r {} + \
    && rm -rf numpy/distutils numpy/f2py exiv2/locale exiv2/examples \
        sqlalchemy/testing sqlalchemy/dialects/mssql sqlalchemy/dialects/mysql sqlalchemy/dialects/oracle \
    && find aiohttp exiv2 frozenlist greenlet httptools multidict PIL propcache sqlalchemy uvloop -name '*.so' -exec strip --strip-debug {} +

FROM python:3.13-slim-trixie
# Security updates of ffmpeg matter more than a fixed version, which Debian withdraws. Drivers for graphics cards (Mesa, LLVM) are 200 MB
# that ffmpeg's packages depend on and that nothing here uses: dpkg excludes their files.
# hadolint ignore=DL3008
RUN printf 'path-exclude=%s\n' \
        '/usr/lib/*/libLLVM*' '/usr/lib/*/libgallium*' '/usr/lib/*/libz3.so*' '/usr/lib/*/dri/*' '/usr/lib/*/libvulkan_*' \
        '/usr/share/X11/*' '/usr/share/alsa/*' '/usr/share/doc/*' '/usr/share/fonts/*' '/usr/share/icons/*' \
        '/usr/share/libmysofa/*' '/usr/share/locale/*' '/usr/share/man/*' '/usr/lib/*/libhwy_*' > /etc/dpkg/dpkg.cfg.d/mediavault \
    && apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ffmpeg tzdata \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
    && ffmpeg -hide_banner -v error -f lavfi -i testsrc=d=0.1 -vf format=yuv420p,zscale=w=64:h=64 -c:v libx264 -f null - \
    && useradd --uid 1000 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin mediavault \
    && install --directory --owner=mediavault --group=root --mode=0770 /data
COPY --from=build /opt/mediavault /opt/mediavault
# The settings' default paths are below ./data. An arbitrary uid with group 0 works as well, because only /data is written to.
ENV PATH=/opt/mediavault/bin:$PATH \
    HOME=/data \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    IMMICH_HOST=0.0.0.0
USER 1000:1000
WORKDIR /
VOLUME /data
EXPOSE 2283
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s --retries=3 CMD ["python", "-m", "app.health.livez"]
CMD ["mediavault", "serve"]
