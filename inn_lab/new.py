"""`inn-lab new NAME` makes the folder NAME for a study of one's own: a model, data, an experiment, a report. It runs at once.

It is a copy of examples/my_study, with another name.
"""

import importlib.util
import keyword
import re
import sys
from pathlib import Path

from inn_lab.errors import ConfigError
from inn_lab.explain import HERE, yamls

NAME = "my_study"
MODEL = next(place / "examples" / NAME for place in (HERE, HERE.parent) if (place / "examples" / NAME).is_dir())
TEXTS = {".md", ".py", ".yaml"}


def main() -> int:
    """Makes the folder. Exit code 2 for a name that cannot be taken."""
    words = sys.argv[1:]
    if words and words[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    try:
        made = make(*words)
    except ConfigError as error:
        print(f"inn_lab: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"inn_lab: {words[0]} cannot be made: {error}; make room, or change the permissions", file=sys.stderr)
        return 2
    print(f"made {made}/; its README says what it can do:\n  cd {made}\n  inn-lab experiment={made.name} trainer.max_epochs=2")
    return 0


def make(*words: str) -> Path:
    """Copies the example to a folder of this name. Raises ConfigError for a name that cannot be taken."""
    if len(words) != 1:
        raise ConfigError(f"new: one name is wanted; e.g. inn-lab new {NAME}")
    folder = Path(words[0])
    name = folder.name
    if not re.fullmatch(r"[a-z]\w*", name, re.ASCII) or keyword.iskeyword(name):
        raise ConfigError(f"new {words[0]}: its module has this name: small letters, digits and _; e.g. inn-lab new {NAME}")
    if folder.exists():
        raise ConfigError(f"new {words[0]}: this folder is there already; take another name")
    if importlib.util.find_spec(name) or name in {path.stem for path in yamls("experiment")}:
        raise ConfigError(f"new {words[0]}: a module or an experiment has this name; take another")
    for path in sorted(path for path in MODEL.rglob("*") if path.suffix in TEXTS):
        target = folder / str(path.relative_to(MODEL)).replace(NAME, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text(encoding="utf-8").replace(NAME, name), encoding="utf-8")
    return folder
