"""Other programs that forward requests: each a process of its own, with the settings that suit it best."""
