# The server on a CPU: docs/serving.md. Build it in a clone, and give it a model at /model:
#
#   docker build --tag manyheads .
#   docker run --rm --publish 127.0.0.1:8080:8080 --volume "$PWD/models:/model:ro" manyheads
#
# The packages are those of the lock file, so the image runs what the tests ran.
FROM python:3.13-slim

ENV PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1

WORKDIR /opt/manyheads
COPY requirements requirements
RUN python -m venv .
RUN bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
RUN bin/uv pip install --quiet --python bin/python --require-hashes -r requirements/cpu.txt

# Last, so that an edit of the code installs nothing else again.
COPY pyproject.toml README.md source/
COPY src source/src
RUN bin/uv pip install --quiet --python bin/python --no-deps --no-build-isolation ./source

# Nobody. Libraries keep their settings in a folder that exists.
USER 65534
ENV HOME=/tmp
EXPOSE 8080
HEALTHCHECK --start-period=60s CMD ["bin/python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/health')"]
ENTRYPOINT ["bin/manyheads"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8080", "--model", "/model"]
