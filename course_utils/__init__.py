"""Fine-tuning pretrained CNNs: the tools of the course, in the order of a fine-tuning run.

Each name is loaded when it is first used, so that `course --help` need not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from course_utils import plots, sweeps
    from course_utils.checkpoints import load_checkpoint, save_checkpoint
    from course_utils.checks import check, progress
    from course_utils.data import Data, open_data
    from course_utils.devices import mixed_precision
    from course_utils.finetune import eval_mode, freeze, param_groups, train_mode, trainable, unfreeze
    from course_utils.folders import near_duplicates
    from course_utils.fx_split import split_frozen
    from course_utils.heads import head_name, head_of, replace_head
    from course_utils.images import Pictures, in_memory, read_picture
    from course_utils.models import load_model, open_model, save_model
    from course_utils.occlusion import occlusion_map
    from course_utils.precomputed import precompute
    from course_utils.prediction import predict
    from course_utils.profiles import Settings, settings
    from course_utils.range_test import lr_range_test, steepest_rate
    from course_utils.sweeps import sweep
    from course_utils.train import Epoch, Score, evaluate, fit, train_one_epoch
    from course_utils.weights import get_weights
    from course_utils.worlds import picture, pictures

EXPORTS = {  # the public API: module → names
    "profiles": ("Settings", "settings"),
    "devices": ("mixed_precision",),
    "worlds": ("picture", "pictures"),
    "weights": ("get_weights",),
    "images": ("Pictures", "in_memory", "read_picture"),
    "folders": ("near_duplicates",),
    "data": ("Data", "open_data"),
    "heads": ("head_name", "head_of", "replace_head"),
    "models": ("load_model", "open_model", "save_model"),
    "finetune": ("eval_mode", "freeze", "param_groups", "train_mode", "trainable", "unfreeze"),
    "train": ("Epoch", "Score", "evaluate", "fit", "train_one_epoch"),
    "prediction": ("predict",),
    "occlusion": ("occlusion_map",),
    "fx_split": ("split_frozen",),
    "precomputed": ("precompute",),
    "checkpoints": ("load_checkpoint", "save_checkpoint"),
    "sweeps": ("sweep", "sweeps"),
    "range_test": ("lr_range_test", "steepest_rate"),
    "plots": ("plots",),
    "checks": ("check", "progress"),
}

__all__ = [
    "Data",
    "Epoch",
    "Pictures",
    "Score",
    "Settings",
    "check",
    "eval_mode",
    "evaluate",
    "fit",
    "freeze",
    "get_weights",
    "head_name",
    "head_of",
    "in_memory",
    "load_checkpoint",
    "load_model",
    "lr_range_test",
    "mixed_precision",
    "near_duplicates",
    "occlusion_map",
    "open_data",
    "open_model",
    "param_groups",
    "picture",
    "pictures",
    "plots",
    "precompute",
    "predict",
    "progress",
    "read_picture",
    "replace_head",
    "save_checkpoint",
    "save_model",
    "settings",
    "split_frozen",
    "steepest_rate",
    "sweep",
    "sweeps",
    "train_mode",
    "train_one_epoch",
    "trainable",
    "unfreeze",
]


def __getattr__(name: str) -> Any:
    for module, names in EXPORTS.items():
        if name in names:
            found = import_module(f"course_utils.{module}")
            return found if name == module else getattr(found, name)
    raise AttributeError(f"course_utils has no {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
