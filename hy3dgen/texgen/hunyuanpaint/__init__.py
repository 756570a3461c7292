"""The paint network and its diffusion pipeline. Files here import the rest of the package absolutely."""
