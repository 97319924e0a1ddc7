"""What the verbs print, with the work behind them replaced."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from tautomer import api
from tautomer.cli import VERBS, _parser, main
from tautomer.errors import CheckFailedError, MissingToolError
from tautomer.remarks import Remark


@dataclass
class Operation:
    op: str = "RMSNormalization"
    inputs: tuple[str, ...] = ("x", "w")
    output: str = "y\x1b[2J"
    attributes: dict[str, object] = field(default_factory=lambda: {"epsilon": 1e-5, "axis": -1})
    nodes: tuple[str, ...] = ("square", "scale")

    def as_json(self) -> dict[str, object]:
        return {"op": self.op, "output": self.output}


REMARKS = [
    Remark("passed", "raise", "RMSNormalization", "scale", "6 nodes became one"),
    Remark("missed", "raise", "Gelu", "erf", "the constant is not sqrt(2)", "use --constants nominal"),
    Remark("missed", "raise", "Gelu", "erf2", "the constant is not sqrt(2)"),
    Remark("analysis", "recognise", "Gelu\n", "odd\nname", "seen"),
]


@pytest.fixture
def result(monkeypatch, model):
    """What api.optimize returns."""
    made = SimpleNamespace(
        remarks=REMARKS,
        before={"Pow": 1, "Mul": 2},
        after={"RMSNormalization": 1, "Mul": 2},
        verification={"verdict": "EQUAL", "reason": "shown"},
        seconds=0.25,
        changed=True,
        asked={},
        save=lambda path, force=False: Path(path).write_bytes(model.read_bytes()),
    )

    def optimize(source, **asked):
        made.asked = asked
        asked["progress"]("recognise")
        return made

    monkeypatch.setattr(api, "optimize", optimize)
    monkeypatch.setattr(api, "inspect", lambda source, **asked: [Operation(), Operation()])
    monkeypatch.setattr(api, "explain", lambda source, **asked: REMARKS)
    return made


def test_inspect(result, model, capsys):
    assert main(["inspect", str(model)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "operation         count  attributes",
        "RMSNormalization      2  axis=-1, epsilon=1e-05",
        "total                 2",
    ]
    assert err == ""
    assert main(["-v", "inspect", str(model)]) == 0
    assert "RMSNormalization(x, w) -> y\\x1b[2J  [square, scale]" in capsys.readouterr().out


def test_explain(result, model, capsys):
    assert main(["explain", str(model)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "passed    RMSNormalization  scale: 6 nodes became one",
        "missed    Gelu  erf: the constant is not sqrt(2)",
        "          hint: use --constants nominal",
        "missed    Gelu  erf2: the constant is not sqrt(2)",
        "analysis  Gelu\\n  odd\\nname: seen",
    ]


def test_optimize(result, model, tmp_path, capsys):
    assert main(["optimize", str(model), str(tmp_path / "out.onnx")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[:9] == [
        "operator          before  after",
        "Pow                    1      0",
        "RMSNormalization       0      1",
        "total                  3      3",
        "",
        "raise: 1 applied, 2 not",
        "  2 x the constant is not sqrt(2)",
        "verification: EQUAL: shown",
        f"{model} (391 B) -> {tmp_path / 'out.onnx'} (391 B)".replace("391", str(model.stat().st_size)),
    ]
    assert result.asked["verify"] is True
    assert (result.asked["target"], result.asked["constants"]) == ("native", "exact")


def test_optimize_options(result, model, tmp_path, capsys):
    options = ["--target", "onnx", "--constants", "nominal", "--no-verify", "--dry-run"]
    assert main(["optimize", str(model), *options]) == 0
    assert (result.asked["target"], result.asked["constants"]) == ("onnx", "nominal")
    assert result.asked["verify"] is False
    assert "nothing was written" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["in.onnx"]


def test_json_is_one_document(result, model, tmp_path, capsys):
    assert main(["inspect", str(model), "--json"]) == 0
    inspected = json.loads(capsys.readouterr().out)
    assert inspected == {"schema_version": 1, "operations": [Operation().as_json()] * 2}
    assert main(["explain", str(model), "--json"]) == 0
    explained = json.loads(capsys.readouterr().out)
    assert explained == {"schema_version": 1, "remarks": [remark.as_json() for remark in REMARKS]}
    assert main(["optimize", str(model), str(tmp_path / "out.onnx"), "--json", "-v"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "schema_version": 1,
        "before": {"Pow": 1, "Mul": 2},
        "after": {"RMSNormalization": 1, "Mul": 2},
        "remarks": [remark.as_json() for remark in REMARKS],
        "verification": {"verdict": "EQUAL", "reason": "shown"},
        "seconds": 0.25,
    }
    assert err.splitlines() == ["recognise", "write"]


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (
            CheckFailedError("the outputs differ", where="y", remedy="report it"),
            1,
            "y: the outputs differ; report it",
        ),
        (MissingToolError("no onnxruntime", remedy="pip install it"), 3, "pip install it"),
        (ModuleNotFoundError("No module named 'flint'", name="flint.types"), 3, "flint is not installed"),
        (MemoryError(), 4, "memory"),
        (OSError(28, "No space left on device", "/out"), 4, "/out: No space left"),
        (ZeroDivisionError("division\nby zero"), 5, "a bug in Tautomer"),
        (ModuleNotFoundError("No module named 'tautomer.x'", name="tautomer.x"), 5, "a bug in Tautomer"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (BrokenPipeError(), 0, ""),
    ],
)
def test_exit_codes(error, code, says, monkeypatch, model, capsys):
    def fail(source, **asked):
        raise error

    monkeypatch.setattr(api, "inspect", fail)
    for arguments in (["inspect", str(model)], ["inspect", str(model), "--json", "-q"]):
        assert main(arguments) == code
        out, err = capsys.readouterr()
        assert out == ""
        assert says in err
        assert len(err.splitlines()) == (1 if says else 0)


@pytest.mark.parametrize("how", ["option", "environment"])
def test_tracebacks_for_those_who_ask(how, monkeypatch, model, capsys):
    def fail(source, **asked):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(api, "inspect", fail)
    if how == "environment":
        monkeypatch.setenv("TAUTOMER_DEBUG", "1")
    assert main(["inspect", str(model), *(["-v"] if how == "option" else [])]) == 5
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.__name__)
def test_help_shows_examples_that_are_right(verb, capsys):
    name = verb.__name__.rpartition(".")[2]
    assert main([name, "--help"]) == 0
    shown = capsys.readouterr().out.partition("examples:\n")[2].splitlines()
    assert shown == [f"  tautomer {example}" for example in verb.EXAMPLES]
    for example in verb.EXAMPLES:
        assert _parser().parse_args(example.split()).run is verb.run


def test_inspect_shows_what_is_part_of_another_below_it(monkeypatch, model, capsys):
    part = Operation("Softmax", attributes={}, nodes=("b", "c"))
    alone = Operation("Softmax", attributes={}, nodes=("e",))
    twin = Operation("Same", attributes={}, nodes=("b", "c"))
    whole = Operation("ScoreAttention", attributes={}, nodes=("a", "b", "c", "d"))
    outer = Operation("Block", attributes={}, nodes=("0", "a", "b", "c", "d"))
    monkeypatch.setattr(api, "inspect", lambda source, **asked: [part, alone, twin, whole, outer])
    assert main(["inspect", str(model)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "operation         count  attributes",
        "Block                 1",
        "  ScoreAttention      1",
        "    Same              1",
        "    Softmax           1",
        "Softmax               1",
        "total                 5  3 of them part of another, indented below it",
    ]


@pytest.mark.parametrize("place", ["a file", "a folder for everybody", "/proc/tautomer"])
def test_cache_says_why_a_folder_is_not_used(place, monkeypatch, tmp_path, capsys):
    (tmp_path / "a file").touch()
    (tmp_path / "a folder for everybody").mkdir()
    (tmp_path / "a folder for everybody").chmod(0o777)
    monkeypatch.setenv("TAUTOMER_CACHE", str(tmp_path / place))
    assert main(["-q", "cache"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("this folder is not used: ")
    assert "TAUTOMER_CACHE" in last


def test_cache_leaves_nothing_behind(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("TAUTOMER_CACHE", str(tmp_path / "absent" / "cache"))
    assert main(["cache"]) == 0
    assert "not used" not in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
