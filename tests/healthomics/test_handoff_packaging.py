"""Packages: equal bytes for equal sources, another version for any change."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path

import pytest

from snakemake_executor_takeda.backends.healthomics import packaging, wdl, wdl_packaging
from snakemake_executor_takeda.values import TakedaError

DATA = Path(__file__).parent / "data"


def copy_of(tmp_path: Path, name: str) -> Path:
    shutil.copytree(DATA, tmp_path / name)
    return tmp_path / name


def package(directory: Path, main: str = "words.wdl") -> packaging.Package:
    return wdl_packaging.build_package(wdl.load(directory / main))


def names(packed: packaging.Package) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(packed.definition_zip)).namelist()


def test_equal_sources_make_equal_bytes_wherever_they_lie(tmp_path: Path) -> None:
    first, second = package(copy_of(tmp_path, "a")), package(copy_of(tmp_path, "b"))
    assert first == second
    assert first.name == "takeda-words"
    assert first.main == "words.wdl"
    assert len(first.version) == 26
    assert first.version.startswith("c-")
    assert names(first) == ["tasks/count.wdl", "words.wdl"]


def test_any_change_of_an_import_is_another_version(tmp_path: Path) -> None:
    directory = copy_of(tmp_path, "a")
    before = package(directory).version
    imported = directory / "tasks" / "count.wdl"
    imported.write_text(imported.read_text() + "\n# changed\n")
    assert package(directory).version != before


def test_the_template_marks_what_may_be_left_out() -> None:
    template = package(DATA).parameter_template
    assert set(template) == {"texts", "label", "least", "upper", "share"}
    assert template["texts"] == {
        "description": "Array[File]+: text files, one count each",
        "optional": False,
    }
    assert template["least"]["optional"] is True


def test_files_outside_the_main_directory_are_moved_inside(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "flow").mkdir()
    (tmp_path / "lib" / "t.wdl").write_text(
        "version 1.0\ntask t { command { echo } output { String s = read_string(stdout()) } }\n"
    )
    (tmp_path / "flow" / "main.wdl").write_text(
        'version 1.0\nimport "../lib/t.wdl" as lib\n'
        "workflow w { call lib.t output { String s = t.s } }\n"
    )
    packed = package(tmp_path / "flow", "main.wdl")
    assert names(packed) == ["__outside_wdl/lib/t.wdl", "main.wdl"]
    again = tmp_path / "unpacked"
    zipfile.ZipFile(io.BytesIO(packed.definition_zip)).extractall(again)
    assert wdl.load(again / "main.wdl").name == "w"


def test_a_definition_past_the_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wdl_packaging, "MAX_ZIP_BYTES", 500)
    with pytest.raises(TakedaError, match="HealthOmics takes 500"):
        package(DATA)


@pytest.mark.parametrize(
    ("first_line", "words"),
    [("", "draft-2"), ("version 1.2", "is WDL 1.2; HealthOmics runs 1.0, 1.1, development")],
)
def test_a_version_that_healthomics_does_not_run(
    tmp_path: Path, first_line: str, words: str
) -> None:
    (tmp_path / "main.wdl").write_text(f"{first_line}\nworkflow w {{ }}\n")
    with pytest.raises(TakedaError, match=words):
        package(tmp_path, "main.wdl")


def test_an_input_of_a_call_is_declared_where_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "main.wdl").write_text(
        "version 1.0\nworkflow w { call t }\ntask t { input { Int n = 1 } command { } }\n"
    )
    workflow = wdl.load(tmp_path / "main.wdl")
    plain = wdl_packaging.build_package(workflow)
    given = wdl_packaging.build_package(workflow, ["t.n"])
    assert plain.parameter_template == {}
    assert given.parameter_template == {"t.n": {"description": "Int", "optional": True}}
    assert given.version != plain.version
