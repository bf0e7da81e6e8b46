"""PostgreSQL, the artifact store on disk, ONNX files."""
