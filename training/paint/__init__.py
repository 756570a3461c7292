"""How nano's paint model is trained: ``python -m training.paint`` (see docs/training.md).

``trace`` (one object's maps and picture) → ``pool`` (worker processes fill the device's memory with them) → ``batches``
(what a step sees) → ``vae`` and ``unet`` (the two phases) → ``evaluate``, ``export``, ``sheet``.
"""
