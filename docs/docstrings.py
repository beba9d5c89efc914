"""Our docstrings as Markdown: ``name : text`` lines become a list (griffe extension, used by mkdocs.yml)."""

import re

from griffe import Extension, Object

HEADING = re.compile(r"^Parameters\n-+\n", re.MULTILINE)
ITEM = re.compile(r"^([a-z_]\w*(?:, [a-z_]\w*)*) : ", re.MULTILINE)


class Parameters(Extension):
    def on_object(self, *, obj: Object, **_: object) -> None:
        if obj.docstring is not None:
            text = HEADING.sub("", obj.docstring.value)
            obj.docstring.value = ITEM.sub(r"\n- **\1** : ", text)
