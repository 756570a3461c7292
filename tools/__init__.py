"""Tools for maintainers; never imported by the package."""
