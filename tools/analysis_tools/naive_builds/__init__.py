"""Methods as one would first write them, to measure the packaged ones against.

Each module has ``build_naive(num_classes)``, whose result takes
``load_reference(state_dict)``, by the names of the authors' checkpoints, and
``encode_decode(windows, metas)``.
"""
