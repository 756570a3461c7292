"""Networks of shape generation."""
