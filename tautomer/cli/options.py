"""Arguments that several verbs share."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_model(parser: argparse.ArgumentParser) -> None:
    """The model to read."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="an .onnx file")


def add_json(parser: argparse.ArgumentParser) -> None:
    """The result as a document."""
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")


def add_constants(parser: argparse.ArgumentParser) -> None:
    """How exactly a named constant must be written."""
    parser.add_argument(
        "--constants",
        choices=("exact", "nominal"),
        default="exact",
        help="nominal also takes constants that were typed with few digits, such as 1.4142 (default: exact)",
    )


def add_operations(parser: argparse.ArgumentParser) -> None:
    """Definitions of the user's own."""
    parser.add_argument(
        "--operations",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="files of Python that define operations to look for beside ours (docs/add-an-operation.md)",
    )


def add_target(parser: argparse.ArgumentParser) -> None:
    """The machine and runtime to rewrite for."""
    parser.add_argument(
        "--target",
        choices=("native", "onnxruntime", "kernels", "onnx"),
        default="native",
        help="what will run the model: onnxruntime on this machine (native), onnxruntime anywhere, "
        "onnxruntime with our kernels by tautomer.session (kernels), or any ONNX runtime (default: native)",
    )


def add_machine(parser: argparse.ArgumentParser) -> None:
    """The processor that kernels are sized for."""
    parser.add_argument(
        "--machine",
        metavar="NAME",
        default="native",
        help="the processor that kernels are sized for: this one (native), or one that is described, such as "
        "x86-64-v3 (default: native)",
    )


def add_norm(parser: argparse.ArgumentParser) -> None:
    """The form of layer normalisations, and what else is done to them when it is asked for."""
    parser.add_argument(
        "--norm",
        choices=("auto", "ln", "rms", "crms", "crms-orthonormal"),
        default="auto",
        help="the form of layer normalisations: what runs fastest (auto), as they are (ln), RMSNormalization "
        "where the stream can be centred (rms), or rows of one element less, as published (crms) or in "
        "an orthonormal basis (default: auto)",
    )
    parser.add_argument(
        "--merge-products", action="store_true", help="make one product of the linear maps of one tensor"
    )
    parser.add_argument(
        "--defer-scale", action="store_true", help="apply norms behind the linear maps that read them"
    )
    parser.add_argument(
        "--choose-by-logits",
        action="store_true",
        help="choose experts and tokens by logits: of two that softmax rounds to one probability, the larger",
    )
