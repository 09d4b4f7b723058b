"""Streamed responses: lines, Server-Sent Events, and the response that carries them."""
