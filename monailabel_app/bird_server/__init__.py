"""The server room: BiRD over HTTP, inside a MONAI Label server."""
