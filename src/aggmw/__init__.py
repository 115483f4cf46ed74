"""The Kubernetes aggregation layer as ASGI middleware."""
