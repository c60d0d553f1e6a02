"""Models by name: the paper's two, ResNet-18, EfficientNet-Lite0, the user's, and all of timm's.

Names are imported on first use: reports read titles from here without importing PyTorch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
