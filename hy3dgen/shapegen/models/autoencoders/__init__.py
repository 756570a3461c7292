"""Networks between latents and meshes."""
