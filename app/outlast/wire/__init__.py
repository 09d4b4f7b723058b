"""The contract between daemon and shim: messages, descriptors, descriptions of processes, shared constants."""
