"""Pictures to meshes."""
