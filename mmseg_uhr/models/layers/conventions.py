"""What layers are made of unless a config says otherwise.

Never changed in place; a config replaces them as a whole.
"""

BATCH_NORM = dict(type='BN')
RELU = dict(type='ReLU')
