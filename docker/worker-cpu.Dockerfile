# One job in one container: trains a job file on CPUs and exits, for clusters that bring their own queue.
#   docker build -f docker/worker-cpu.Dockerfile -t lockstep-worker .
#   docker run -v ~/data:/data:ro -v ~/jobs:/work --shm-size=1g lockstep-worker run job.yaml --out result
FROM debian:12-slim AS build
WORKDIR /src
COPY scripts/install-packages scripts/runtime-packages scripts/
RUN scripts/install-packages --build
COPY . .
RUN cmake --preset cpu-release -DLOCKSTEP_TESTS=OFF -DLOCKSTEP_BENCH=OFF
RUN cmake --build --preset cpu-release
RUN cmake --install build/cpu-release --prefix /opt/lockstep --strip
RUN scripts/runtime-packages /opt/lockstep/bin/* > /opt/lockstep/runtime-packages

FROM debian:12-slim
COPY --from=build /opt/lockstep /opt/lockstep
RUN apt-get update && xargs apt-get install -y --no-install-recommends ca-certificates openmpi-bin tini < /opt/lockstep/runtime-packages && rm -rf /var/lib/apt/lists/*
# Inside a container, Open MPI may not read a neighbour's memory directly.
RUN echo "btl_vader_single_copy_mechanism = none" >> /etc/openmpi/openmpi-mca-params.conf
RUN useradd --uid 10001 --create-home lockstep && install -d -o lockstep -g lockstep /var/lib/lockstep /data
ENV PATH=/opt/lockstep/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
USER 10001
ENV LOCKSTEP_DATA_DIR=/data
WORKDIR /work
ENTRYPOINT ["tini", "--", "lockstep"]
CMD ["run", "--help"]
