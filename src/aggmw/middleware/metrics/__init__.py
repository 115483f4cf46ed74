"""Metrics: what is asked for, how it is answered and how long that takes, as a Prometheus page."""

from aggmw.middleware.metrics.middleware import Known, Metrics, MetricsMiddleware

__all__ = ["Known", "Metrics", "MetricsMiddleware"]
