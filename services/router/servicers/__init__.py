"""The gRPC faces: protobuf in, engine, protobuf out."""
