"""The HTTP surface: routes, schemas, authentication, errors, Server-Sent Events, the API's document.

routes.py        the whole surface as one table; read this first
application.py   makes the aiohttp application from the table
<subject>.py     handlers: processes, output, follow, stdin, meta, docs
schemas.py       what is accepted (list_schemas.py: by lists; fields.py: building blocks); answers.py: what is sent
"""
