"""The contract between daemon and shim: messages, descriptors, and what both sides agree on."""
