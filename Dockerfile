# One image for the API, the workers, the scheduler, Flower, the migrations and the simulator: the command says which.
FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN python -m venv /venv
COPY constraints.txt ./
RUN /venv/bin/pip install --no-deps --require-hashes -r constraints.txt
COPY . ./
RUN /venv/bin/pip install --no-build-isolation --no-deps .

FROM python:3.13-slim
RUN useradd --uid 1000 --create-home goblin \
    && install --directory --mode=0700 --owner=goblin /keys
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 1000
WORKDIR /home/goblin
EXPOSE 3001
ENTRYPOINT ["goblin"]
CMD ["--help"]
