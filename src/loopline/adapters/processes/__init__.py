"""Work in processes of this machine."""
