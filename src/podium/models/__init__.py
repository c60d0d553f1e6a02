"""Models by name: the paper's two, ResNet-18, EfficientNet-Lite0, the user's, and all of timm's.

Names are imported when they are first used: reports read titles here, and need no PyTorch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
