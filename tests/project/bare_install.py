"""Run by `.ci/run` with the interpreter of an environment that holds the wheel and what it requires, nothing else.

It is no test of pytest's, because there is no pytest in that environment. Every module of hawk must import there, save
those that need an optional package, and an application must be able to write down its settings.
"""

import importlib
import sys
from importlib.metadata import distributions
from pathlib import Path

import hawk
from hawk.config import Config

# Modules that may ask for a package which a bare install does not bring.
MAY_NEED_MORE = (
    *("hawk.cli", "hawk.links.aiomqtt", "hawk.scenario", "hawk.service"),
    *("hawk.testing.plugin", "hawk.testing.strategies"),
)


def main() -> None:
    folder = Path(hawk.__file__).parent
    assert folder.is_relative_to(sys.prefix), f"{folder} is not what the wheel installed"
    assert (folder / "py.typed").is_file(), "the wheel does not carry the marker of a typed package"

    names = [name_of(path, folder) for path in sorted(folder.rglob("*.py"))]
    modules = [name for name in names if not name.startswith(MAY_NEED_MORE)]
    for module in modules:
        importlib.import_module(module)

    settings = Config.from_url("mqtt://sensor:secret@broker.example:1884", qos=2)
    assert (settings.broker, settings.port) == ("broker.example", 1884), settings
    assert "secret" not in repr(settings), "a credential shows in repr()"

    installed = sorted({distribution.name for distribution in distributions()})
    print(f"hawk {hawk.__version__}: {len(modules)} modules imported beside {', '.join(installed)}")


def name_of(path: Path, folder: Path) -> str:
    parts = path.relative_to(folder.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


main()
