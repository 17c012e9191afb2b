"""ModelDB: runs as its REST interface gave them."""
