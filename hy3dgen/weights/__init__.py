"""From a model's name to a loaded module: catalogue, search, download, licence, strict loading, residency."""
