"""Kubernetes' role-based access control: an authorizer that reads roles and bindings, and indexes them.

`authorizer` is the whole. `objects` are the values, `manifests` finds them in files, `reading` reads one of them;
`defaults.yaml` are the roles that ship. `selectors` and `aggregation` give aggregated cluster roles their rules.
`snapshot` is what was loaded, by whom it concerns; `table` finds the first role that allows a request. `rules` says
what one rule allows, `explain`, `misses` and `changes` why it was decided so and what would allow it, `granted` what
everybody has, `second_look` what is probably meant otherwise. `coverage` compares what somebody has with what they want
to give, `escalation` refuses what is more.
"""
