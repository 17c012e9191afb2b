"""Protocols of other model servers, one file each: what they ask becomes the engine's call, its outcome their answer."""
