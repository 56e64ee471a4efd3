"""A command whose help lists its options in sections: too many for one list."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

OTHERS = "Options"


class SectionedCommand(TyperCommand):
    """Options with the same ``rich_help_panel`` stand together, in the order of the signature."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and then one list of options a section."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], OTHERS: []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                kind = "Arguments" if parameter.param_type_name == "argument" else OTHERS
                panel = getattr(parameter, "rich_help_panel", None) or kind
                sections.setdefault(panel, []).append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
