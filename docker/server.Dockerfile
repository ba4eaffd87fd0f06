# The coordinator, with the CPU workers that it starts on its own machine, and the command line.
#   docker build -f docker/server.Dockerfile -t lockstep-server .
#   docker run -p 127.0.0.1:7070:7070 -p 127.0.0.1:8080:8080 -v ~/data:/data:ro --shm-size=1g lockstep-server
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
VOLUME ["/var/lib/lockstep"]
EXPOSE 7070 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["lockstep", "health"]
ENTRYPOINT ["tini", "--", "lockstepd"]
# Not with --production, which refuses --insecure: a container must listen on its own network to be reached at all.
CMD ["--listen", "0.0.0.0:7070", "--http", "0.0.0.0:8080", "--insecure", "--state-dir", "/var/lib/lockstep", "--data-root", "/data"]
