"""The only vocabulary for scope, receive and send: types, headers, bodies, responses, exchanges and lifespans."""
