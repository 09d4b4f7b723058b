"""The served document against the served API: schemathesis makes requests from it and judges each answer by it."""
