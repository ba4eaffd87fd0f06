# Coordinator, worker and command line on CPUs. The coordinator starts its workers with mpirun on its
# own machine, so one container of this image trains.
#   docker build -f docker/worker-cpu.Dockerfile -t lockstep .
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
RUN apt-get update && xargs apt-get install -y --no-install-recommends ca-certificates tini openmpi-bin < /opt/lockstep/runtime-packages && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --create-home lockstep && install -d -o lockstep -g lockstep /var/lib/lockstep /data
# Inside a container, Open MPI may not read a neighbour's memory directly.
ENV PATH=/opt/lockstep/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LOCKSTEP_ADDRESS=127.0.0.1:50051 OMPI_MCA_btl_vader_single_copy_mechanism=none
USER 10001
VOLUME ["/var/lib/lockstep"]
EXPOSE 50051 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["lockstep", "health"]
ENTRYPOINT ["tini", "--", "lockstepd"]
CMD ["--listen", "0.0.0.0:50051", "--http", "0.0.0.0:8080", "--state-dir", "/var/lib/lockstep", "--data-root", "/data"]
