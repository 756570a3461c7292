"""The two diffusion stages of the texture: ``dehighlight_utils`` (delight) and ``multiview_utils`` (paint)."""
