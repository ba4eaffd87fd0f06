# The coordinator and the command line. It takes jobs and serves their results; to train on the same
# machine, use the worker image, which holds the worker too.
#   docker build -f docker/server.Dockerfile -t lockstep-server .
FROM debian:12-slim AS build
WORKDIR /src
COPY scripts/install-packages scripts/runtime-packages scripts/
RUN scripts/install-packages --build
COPY . .
RUN cmake --preset cpu-release -DLOCKSTEP_TESTS=OFF -DLOCKSTEP_BENCH=OFF
RUN cmake --build --preset cpu-release --target lockstepd lockstep
RUN install -D --strip --target-directory=/opt/lockstep/bin build/cpu-release/bin/lockstepd build/cpu-release/bin/lockstep
RUN scripts/runtime-packages /opt/lockstep/bin/* > /opt/lockstep/runtime-packages

FROM debian:12-slim
COPY --from=build /opt/lockstep /opt/lockstep
RUN apt-get update && xargs apt-get install -y --no-install-recommends ca-certificates tini < /opt/lockstep/runtime-packages && rm -rf /var/lib/apt/lists/*
RUN useradd --uid 10001 --create-home lockstep && install -d -o lockstep -g lockstep /var/lib/lockstep /data
ENV PATH=/opt/lockstep/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LOCKSTEP_ADDRESS=127.0.0.1:50051
USER 10001
VOLUME ["/var/lib/lockstep"]
EXPOSE 50051 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["lockstep", "health"]
ENTRYPOINT ["tini", "--", "lockstepd"]
CMD ["--listen", "0.0.0.0:50051", "--http", "0.0.0.0:8080", "--state-dir", "/var/lib/lockstep", "--data-root", "/data"]
