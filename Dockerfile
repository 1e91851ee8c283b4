# A static binary in an empty image: no shell, no package manager, not root.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=""
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X hydragate/cmd/hydragate/app.version=${VERSION}" -o /out/hydragate ./cmd/hydragate \
 && mkdir -p /out/data

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/hydragate /hydragate
COPY --from=build --chown=65532:65532 /out/data /data
ENV HYDRAGATE_LISTEN=0.0.0.0:8080 HYDRAGATE_DATA_DIR=/data SQLITE_TMPDIR=/data
VOLUME /data
EXPOSE 8080
USER 65532:65532
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=20s CMD ["/hydragate", "healthcheck"]
ENTRYPOINT ["/hydragate"]
CMD ["serve"]
