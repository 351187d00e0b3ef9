# The launcher image: berth, QEMU and nothing else on a Debian base. No shell script, no helper programs.
#
#   docker build -t berth:0.1.0 .
FROM rust:1-slim-bookworm AS build
WORKDIR /src
COPY . .
# --target keeps crt-static away from build scripts and macros.
RUN RUSTFLAGS='-C target-feature=+crt-static' \
    cargo build --release --locked -p berth --target "$(uname -m)-unknown-linux-gnu" \
    && cp "target/$(uname -m)-unknown-linux-gnu/release/berth" /berth

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends qemu-system-x86 ca-certificates \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /berth /usr/local/bin/berth
# The seed's chart starts this path; under that name every argument is QEMU's.
RUN ln -s /usr/local/bin/berth /startvm.sh
VOLUME /image
ENTRYPOINT ["/usr/local/bin/berth"]
CMD ["run"]
