module infermesh.dev/client

go 1.23
