"""Certificates: make, read and verify. Used by the server, authentication and the test tools."""
