"""Questions to whole policies, which nobody asks on the way of a request.

`regions` are sets of requests, `space` makes them of grants, `subjects` says who holds which grants. `who_can` finds
everybody who may do something, `diff` what two policies allow to whom, `shadows` the rules that change nothing, `words`
says what was found.
"""
