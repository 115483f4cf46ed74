"""Ways to reach a backend: implementations of `contracts.backends.UpstreamTransport`."""
