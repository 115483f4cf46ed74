"""Kubernetes API machinery without HTTP."""
