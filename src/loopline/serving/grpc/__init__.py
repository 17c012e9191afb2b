"""The worker's gRPC side, loaded only where it is enabled: it needs the extra `grpc`."""
