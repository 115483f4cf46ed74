"""An aggregated API server of the demo: `wardle.example.com/v1alpha1` flunders, kept in memory, behind a front proxy.

Start it with its path: `python …/wardle/__main__.py --help`. What each module is for:

- `trust`: whom it believes, which is `aggmw.backend`'s to say, and its log
- `app`: routes, what discovery says of them, and what each verb does
- `queries`: what a query may ask for
- `objects`: what a flunder is: decoding, validation, metadata, status, selectors
- `patches`: merge patches and JSON patches
- `storage`: objects, revisions and the changes that watches read
- `watching`: a watch as lines of JSON
- `tables`: what `kubectl get` shows
- `serve`: TLS, arguments, beginning and end

What it leaves out: pagination (`limit` is allowed to be ignored), finalizers, server-side apply, `managedFields`, and
authorization of its own: the front proxy has already decided.
"""
