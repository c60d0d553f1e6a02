# What this room offers, each name with its home: read by type checkers, and by `__init__.py`.
from .built import BuiltModel as BuiltModel, ModelInfo as ModelInfo
from .registry import (
    about_model as about_model,
    batch_norms as batch_norms,
    build_model as build_model,
    check_weights as check_weights,
    freeze_backbone as freeze_backbone,
    list_models as list_models,
    rebuild_model as rebuild_model,
    set_train_mode as set_train_mode,
)
from .spec import ModelSpec as ModelSpec, register_model as register_model
