"""Policies in casbin's language: an authorizer that reads a model and a policy file.

`authorizer` is the whole; `inputs` says what a model can ask about, `text`, `policy` and `model` read files, `matcher`,
`standard` and `lint` find mistakes in them, `functions` and `roles` replace casbin's own, and `enforcer` is the only
module that imports casbin. `model.conf` is the model that ships.
"""
