"""Several worker processes behind one address, and the supervisor that keeps them.

::

    supervisor   binds the address, makes the directory's files; starts, watches, replaces and stops workers; adds up
      ├── worker 1   reads the configuration, accepts connections, serves: `aggmw.server.serving.Server`
      ├── worker 2   …
      └── worker N

- `supervisor` decides; `process` is one worker as it sees it; `channel` carries what the two say to each other;
- `job` is what a worker is told first, and `worker` the program that it is;
- `ledger` keeps what workers count, also those that are gone.

The supervisor touches no request. Where it dies, its workers end as after SIGTERM.
"""
