"""How any module runs on this machine: device, memory, stages, attention, offloading.

Knows torch and byte sizes, none of our networks. Nothing here imports torch before it is needed.
"""
