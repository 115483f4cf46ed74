"""Policies in casbin's language: an authorizer that reads a model and a policy file, and compiles them.

`authorizer` is the whole. `text`, `policy` and `model` read files; `matcher`, `standard` and `lint` find mistakes in
them. `snapshot` is what was loaded: `inputs` and `subjects` say what a model can ask about a request, `roles` and
`role_patterns` who has which role, `functions` and `expressions` what matches what. `closures` and `compile` make a
matcher callable, `keys` and `index` find the rules that it could match, `section` decides, `cache` remembers, `explain`
says why, `listing` what somebody may do. `enforcer` is the only module that imports casbin. `model.conf` is the model
that ships.
"""
