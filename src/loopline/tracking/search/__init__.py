"""Search over runs: a filter in words becomes a tree (`grammar`), the tree SQL (`sql`), and that pages (`pages`)."""
