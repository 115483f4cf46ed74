"""Dialling for everybody: addresses, TLS towards backends, limits."""
