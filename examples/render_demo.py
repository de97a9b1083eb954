"""Draws the picture of `hawk demo` that the README shows: the live screen, in the middle of the outage.

    python examples/render_demo.py [file]

It plays the demo's own run in virtual time and takes the screen as it is then, so the picture is the same every time.
"""

import io
import sys
from pathlib import Path

import anyio
from rich.console import Console

from hawk.cli.demo_run import DemoRun
from hawk.cli.demo_view import FRAME_S, WIDTH, LiveView
from hawk.cli.demo_world import rehearsed_world
from hawk.testing import run

TAKEN_AT_S = 10.4

# rich's own template fetches its font from the network. This one is content with what the reader's machine has.
TEMPLATE = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
  <style>
    .{unique_id}-matrix {{
      font-family: "DejaVu Sans Mono", Menlo, Consolas, monospace;
      font-size: {char_height}px;
      line-height: {line_height}px;
      font-variant-east-asian: full-width;
    }}
    .{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
    {styles}
  </style>
  <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
    </clipPath>
    {lines}
  </defs>
  {chrome}
  <g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
      {matrix}
    </g>
  </g>
</svg>
"""


async def screen_during_the_outage(console: Console) -> None:
    """Print onto `console` what somebody who watches would see at `TAKEN_AT_S`."""
    demo = DemoRun()
    view = LiveView(demo, console)
    async with rehearsed_world(seed=0) as world, anyio.create_task_group() as tasks:
        tasks.start_soon(demo.run, world)
        while demo.moment().at_s < TAKEN_AT_S:
            await anyio.sleep(FRAME_S)
            screen = view.screen()
        console.print(screen)
        tasks.cancel_scope.cancel()


def picture() -> str:
    """The picture as SVG."""
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor", no_color=False
    )
    run(screen_during_the_outage, console)
    svg = console.export_svg(title="hawk demo", code_format=TEMPLATE, unique_id="hawk-demo")
    return "\n".join(line.rstrip() for line in svg.splitlines()) + "\n"


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("demo.svg")
    target.write_text(picture(), encoding="utf-8")
