"""The HTTP API: routes, handlers, schemas, authentication, errors, streams, and the OpenAPI document.

routes.py        the route table: the whole HTTP surface; read this first
application.py   makes the aiohttp application from the table
handlers/        what each call does
schemas/         what each call accepts and answers
streaming/       responses that are sent in pieces
openapi.py       makes the OpenAPI document from the table and the schemas
"""
