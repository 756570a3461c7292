"""The paint UNet: several views of one object denoised together, looking at reference pictures."""
