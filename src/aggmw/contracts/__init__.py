"""What stages tell each other: frozen values and Protocols, without I/O. Stages import this, never one another."""
