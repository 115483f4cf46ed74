"""Builds the compiled wheel: the modules that every request goes through become C extensions beside their sources.

    HATCH_BUILD_HOOK_ENABLE_CUSTOM=true pip wheel --no-deps .

Asked for only so; without it the wheel is plain Python, and neither Cython nor a C compiler is needed. What is compiled
stands in pyproject.toml, in the table of this hook: modules, and of each the classes that become C structs.

The sources are compiled as they are. Annotations are not made use of: what an application hands in may be of any type
that behaves like the one that is named. Only `__slots__` is: the fields of a class that is listed.
"""

from __future__ import annotations

import ast
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

DIRECTIVES = {
    "language_level": 3,
    "annotation_typing": False,
    "auto_pickle": False,
    "nonecheck": True,
}
FLAGS = ["-O2", "-g0", "-fno-plt"]  # calls into Python's library without a detour: two per cent of a request

_NEEDS = (
    "the compiled build needs a C compiler and Python's headers (gcc and python3-dev on Debian);"
    " without HATCH_BUILD_HOOK_ENABLE_CUSTOM the wheel is plain Python and needs neither"
)


class CompiledModules(BuildHookInterface[Any]):
    """Compiles into a folder of its own and adds what came out to the wheel, which is then one for this platform."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Before the wheel is put together. An editable installation stays plain Python."""
        if version != "standard":
            return
        self._folder = TemporaryDirectory()
        modules = {Path(name): classes for name, classes in self.config["compiled"].items()}
        for extension in compiled(Path(self.root, "src"), modules, Path(self._folder.name)):
            build_data["force_include"][str(extension)] = str(extension.relative_to(self._folder.name, "extensions"))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """When the wheel is written."""
        if version == "standard":
            self._folder.cleanup()


def compiled(sources: Path, modules: dict[Path, list[str]], folder: Path) -> list[Path]:
    """Compile modules.

    Args:
        sources: where the package is.
        modules: paths below that, and the classes of each that become C structs.
        folder: an empty one, for what is made on the way.

    Returns:
        The extensions, below `folder/extensions`.

    Raises:
        RuntimeError: what it needs is not there.
    """
    from Cython.Build import cythonize  # only here are they needed
    from setuptools import Distribution, Extension
    from setuptools.errors import CompileError

    shutil.copytree(sources, folder / "sources")
    for path, classes in modules.items():
        if classes:
            declared = declarations((sources / path).read_text(), classes)
            (folder / "sources" / path).with_suffix(".pxd").write_text(declared)
    here = Path.cwd()
    os.chdir(folder / "sources")  # tracebacks show paths as they were given
    try:
        extensions = [
            Extension(".".join(path.with_suffix("").parts), [str(path)], extra_compile_args=FLAGS) for path in modules
        ]
        extensions = cythonize(extensions, nthreads=os.cpu_count(), compiler_directives=DIRECTIVES, quiet=True)
        build = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
        build.build_lib = str(folder / "extensions")
        build.build_temp = str(folder / "objects")
        build.parallel = os.cpu_count()
        build.ensure_finalized()
        try:
            build.run()
        except CompileError as error:
            raise RuntimeError(_NEEDS) from error
        return [folder / "extensions" / build.get_ext_filename(extension.name) for extension in extensions]
    finally:
        os.chdir(here)


def declarations(source: str, classes: list[str]) -> str:
    """What Cython has to know of the classes beside their source: the fields, which are those in `__slots__`."""
    found = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    lines: list[str] = []
    for name in classes:
        fields = [f"    cdef {'' if slot == '__weakref__' else 'public '}object {slot}" for slot in slots(found[name])]
        lines += [f"cdef class {name}:", *fields, ""]
    return "\n".join(lines)


def slots(node: ast.ClassDef) -> tuple[str, ...]:
    """The names in a class's `__slots__`.

    Raises:
        ValueError: it has none.
    """
    for statement in node.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__slots__":
            return tuple(ast.literal_eval(statement.value))
    raise ValueError(f"{node.name} has no __slots__, so nobody knows the fields of its C struct")
