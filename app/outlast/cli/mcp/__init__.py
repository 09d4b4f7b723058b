"""`outlast mcp`: the tools of a coding agent, over the Model Context Protocol."""
