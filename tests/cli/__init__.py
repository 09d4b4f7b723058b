"""The commands of clients: exit codes, forms, screens, and follows over kills."""
