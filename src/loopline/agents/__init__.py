"""Small programs that reach a platform through the client: worker, node, edge."""
