"""Podium: which image classifier wins on your images, and how sure can you be?

    import podium

    study = podium.Study.load("quick", data="my-images")
    study.run()
    print(study.report())

Names are imported when they are first used, so that `import podium` costs nothing.
"""

import lazy_loader

from podium.__about__ import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ = sorted([*__all__, "__version__"])
