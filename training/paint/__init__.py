"""How nano's paint model is trained: ``python -m training.paint`` (see docs/training.md).

``trace`` (one object's maps and picture) → ``pool`` (worker processes fill the device's memory with them) → ``batches``
(what a step sees) → ``phases`` (autoencoder, then UNet, of ``networks``) → ``score`` (figures and contact sheet) and
``export``; ``commands`` puts them together.
"""
