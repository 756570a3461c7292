"""What `tools/patches.py` is made of: editing syntax trees, reading and writing a tree safely, reports.

Imports nothing of hy3dgen: it must work on somebody else's checkout.
"""
