"""The stages a request goes through, a folder each, in this order from the outside in.

1. recovery: request id, last-resort error → Status; writes the warnings collected inside into the response head
2. request_info: the one path parser; refuses what is ambiguous
3. authentication: identity in; credentials and forged identity headers out; 401
4. audit: who did what, as a policy says; every outcome is recorded
5. impersonation: acting as somebody else, where authorization lets one; 403
6. authorization: attributes → verdict; 403 with the reason
7. metrics: counts what is in flight and what is over; answers /metrics
8. discovery: /api, /apis, /openapi, /version and health, from memory
9. registry: group version of a remote service → Backend
10. proxy: forwards where a Backend was left; else passes on
11. resources: kinds that the front proxy serves itself; all else is the wrapped application's
"""
