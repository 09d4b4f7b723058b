"""Answers sent in pieces: lines, Server-Sent Events, and the response that carries them."""
