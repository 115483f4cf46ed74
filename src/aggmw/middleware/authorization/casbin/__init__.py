"""Policies in casbin's language: an authorizer that reads a model and a policy, and compiles them.

`authorizer` is the whole, `options` what it can be told. `sources` are where policies come from (`collecting` is what
casbin's adapters fill), and `loading` makes a snapshot of one. `text`, `policy` and `model` read files; `matcher`,
`standard` and `lint` find mistakes in them. `snapshot` is what was loaded, and `revisions` names it. `inputs` and
`subjects` say what a model can ask about a request, `roles` and `role_patterns` who has which role, `functions` and
`expressions` what matches what. `closures` and `compile` make a matcher callable, `keys` and `index` find the rules
that it could match, `section` decides, `cache` remembers, `explain` says why, `listing` what somebody may do. `misses`
says why not (`differences` of rules of the model that ships, `own_model` of others), `changes` and `trials` what would
be allowed then. `granted` makes a policy comparable with others, `second_look` finds what is worth one. `enforcer` is
the only module that imports casbin. `model.conf` is the model that ships.
"""
